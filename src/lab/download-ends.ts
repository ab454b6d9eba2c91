/**
 * The two ends of a download, each a thread that lives in a network namespace: its sockets are ordinary TCP
 * sockets of that namespace's kernel. A server on one end sends the pattern without a pause until it is told
 * to stop; a client on the other end reads and checks it.
 *
 * Node's sockets rather than the shim's: libuv makes a socket on the thread that asks for it, and accept(2)
 * leaves a connection in its listener's namespace.
 */
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { enterNamespace } from '../kernel/namespace.ts';
import { loadShim } from '../kernel/shim.ts';
import { Gaps } from './arrivals.ts';
import { monotonicNanos } from './clock.ts';
import type { ReceiverEnd, SenderEnd } from './download-report.ts';
import { PatternReader, writePattern } from './pattern.ts';

export type EndOrder =
  | { readonly role: 'send'; readonly namespace: string; readonly address: string }
  | {
      readonly role: 'receive';
      readonly namespace: string;
      readonly address: string;
      readonly port: number;
      /** Float64 × {@link PROGRESS_WORDS}. */
      readonly progress: SharedArrayBuffer;
    };

/** The words of `progress`: bytes received, and the longest stall so far in nanoseconds. */
export const PROGRESS_WORDS = 2;

export type EndMessage =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'connected' }
  | { readonly kind: 'sent'; readonly account: SenderEnd }
  | { readonly kind: 'received'; readonly account: ReceiverEnd };

/** What an end has of its owner. */
export interface EndOwner {
  tell(message: EndMessage): void;
  /** Takes what to do when the owner has had enough, and waits no longer than so many milliseconds. */
  onStop(stop: (settleMillis: number) => void): void;
}

/** Large enough that a write costs little beside its bytes, small enough that a stop is heard at once. */
const BLOCK_BYTES = 256 * 1024;
/** One under way while the next is filled. */
const BLOCKS = 2;

/** A thread's life as one end. It enters the namespace for good. */
export function runEnd(order: EndOrder, owner: EndOwner): void {
  const shim = loadShim();
  shim.threadName(`tp-${order.role}`);
  enterNamespace(shim, order.namespace);
  if (order.role === 'send') sendFrom(order.address, owner);
  else receiveFrom(order, owner);
}

function sendFrom(address: string, owner: EndOwner): void {
  const before = retransmitted();
  let connections = 0;
  const server = createServer((socket) => {
    if (++connections > 1) return socket.destroy();
    pump(socket, owner, ({ bytes, error }) => {
      const retransmits = retransmitted() - before;
      owner.tell({ kind: 'sent', account: { bytes, error, connections, retransmits } });
    });
  });
  const listening = (): void => {
    owner.tell({ kind: 'listening', port: (server.address() as AddressInfo).port });
  };
  server.listen(0, address, listening);
}

/** Sends until told to stop, then ends the stream. */
function pump(
  socket: Socket,
  owner: EndOwner,
  done: (result: { bytes: number; error: string | undefined }) => void,
): void {
  let bytes = 0;
  let stopping = false;
  let idle = 0;
  const fill = (block: DataView): void => {
    if (stopping) {
      // What both blocks held is with the kernel now; the end comes behind it.
      if (++idle === BLOCKS) socket.end();
      return;
    }
    writePattern(block, bytes);
    bytes += block.byteLength;
    socket.write(new Uint8Array(block.buffer), (failure) => {
      // Not at once: a kernel that takes every block as it comes would keep the thread from hearing of the stop.
      if (!failure) setImmediate(fill, block);
    });
  };
  owner.onStop((settleMillis) => {
    stopping = true;
    giveUp(socket, settleMillis);
  });
  whenClosed(socket, (error) => done({ bytes, error }));
  socket.resume(); // the client's end of the stream is seen only by who reads
  for (let i = 0; i < BLOCKS; i++) fill(new DataView(new ArrayBuffer(BLOCK_BYTES)));
}

function receiveFrom(
  { address, port, progress }: Extract<EndOrder, { role: 'receive' }>,
  owner: EndOwner,
): void {
  const reader = new PatternReader();
  const gaps = new Gaps(1);
  const words = new Float64Array(progress, 0, PROGRESS_WORDS);
  const buffer = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(buffer.buffer);
  let [first, last, ended] = [0, 0, false];
  const socket = connect({
    ...{ host: address, port },
    // One buffer for all reads: a stream of Buffers would keep the garbage collector busy.
    onread: {
      buffer,
      callback: (length) => {
        last = monotonicNanos();
        first ||= last;
        gaps.arrived(last);
        reader.read(view, length);
        words[0] = reader.position;
        words[1] = gaps.longest[0]?.nanos ?? 0;
        return true;
      },
    },
  });
  owner.onStop((settleMillis) => giveUp(socket, settleMillis));
  socket.on('connect', () => owner.tell({ kind: 'connected' }));
  socket.on('end', () => {
    ended = true;
  });
  whenClosed(socket, (error) => {
    if (!ended) gaps.arrived(monotonicNanos()); // what never came was waited for as well
    const longestStall = gaps.longest[0] ?? { atNanos: first, nanos: 0 };
    const { position: bytes, wrongAt } = reader;
    owner.tell({
      kind: 'received',
      account: { bytes, nanos: last - first, longestStall, wrongAt, ended, error },
    });
  });
}

function giveUp(socket: Socket, millis: number): void {
  const late = (): void => {
    socket.destroy(new Error(`the stream did not end within ${millis} ms`));
  };
  setTimeout(late, millis).unref();
}

function whenClosed(socket: Socket, closed: (error: string | undefined) => void): void {
  let first: string | undefined;
  socket.on('error', ({ message }) => {
    first ??= message;
  });
  socket.on('close', () => closed(first));
}

/** `RetransSegs` of the namespace this thread is in (RFC 4022), which nothing but the download uses. */
function retransmitted(): number {
  const rows = readFileSync('/proc/thread-self/net/snmp', 'ascii')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'));
  const [names, values] = rows.map((row) => row.split(' '));
  return Number(values![names!.indexOf('RetransSegs')]);
}
