/**
 * The two ends of a download. Each is a thread in a network namespace, with ordinary TCP sockets of that namespace's kernel.
 * A server on one end sends the pattern without a pause until its owner stops it; a client on the other end reads and
 * checks it.
 *
 * Node's sockets suffice: libuv creates a socket on the thread that asks for it, and a connection that accept(2) returns is
 * in the namespace of its listener.
 */
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { enterNamespace } from '../kernel/namespace.ts';
import { loadShim } from '../kernel/shim.ts';
import { nowNanos } from '../memory/shared.ts';
import { Gaps } from './measurement.ts';
import { PatternReader, writePattern } from './pattern.ts';
import type { ReceiverEnd, SenderEnd } from './reports.ts';

export type EndConfig =
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
  | { readonly kind: 'sent'; readonly result: SenderEnd }
  | { readonly kind: 'received'; readonly result: ReceiverEnd };

/** How an end talks to its owner. */
export interface EndOwner {
  post(message: EndMessage): void;
  /** Calls `stop` when the owner stops the download; the end may take so many milliseconds for the rest of the stream. */
  onStop(stop: (settleMillis: number) => void): void;
}

/** Large enough that the cost of a write is small compared with its bytes, small enough that a stop takes effect at once. */
const BLOCK_BYTES = 256 * 1024;
/** The kernel takes one while the other is filled. */
const BLOCKS = 2;

/** Runs the calling thread as one end. The thread stays in the namespace. */
export function runEnd(config: EndConfig, owner: EndOwner): void {
  const shim = loadShim();
  shim.threadName(`tp-${config.role}`);
  enterNamespace(shim, config.namespace);
  if (config.role === 'send') serve(config.address, owner);
  else receive(config, owner);
}

function serve(address: string, owner: EndOwner): void {
  const before = retransmitted();
  let connections = 0;
  const server = createServer((socket) => {
    if (++connections > 1) return socket.destroy();
    sendPattern(socket, owner, ({ bytes, error }) => {
      const retransmits = retransmitted() - before;
      owner.post({ kind: 'sent', result: { bytes, error, connections, retransmits } });
    });
  });
  const listening = (): void => {
    owner.post({ kind: 'listening', port: (server.address() as AddressInfo).port });
  };
  server.listen(0, address, listening);
}

/** Sends until the owner stops it, then ends the stream. */
function sendPattern(
  socket: Socket,
  owner: EndOwner,
  done: (result: { bytes: number; error: string | undefined }) => void,
): void {
  let bytes = 0;
  let stopping = false;
  let idle = 0;
  const fill = (block: DataView): void => {
    if (stopping) {
      // The kernel has both blocks now; FIN follows them.
      if (++idle === BLOCKS) socket.end();
      return;
    }
    writePattern(block, bytes);
    bytes += block.byteLength;
    socket.write(new Uint8Array(block.buffer), (failure) => {
      // A kernel that takes every block at once would keep the thread from receiving the stop message.
      if (!failure) setImmediate(fill, block);
    });
  };
  owner.onStop((settleMillis) => {
    stopping = true;
    destroyAfter(socket, settleMillis);
  });
  whenClosed(socket, (error) => done({ bytes, error }));
  socket.resume(); // Node reports the end of a stream only to a reader
  for (let i = 0; i < BLOCKS; i++) fill(new DataView(new ArrayBuffer(BLOCK_BYTES)));
}

function receive(
  { address, port, progress }: Extract<EndConfig, { role: 'receive' }>,
  owner: EndOwner,
): void {
  const reader = new PatternReader();
  const gaps = new Gaps(1);
  const words = new Float64Array(progress, 0, PROGRESS_WORDS);
  const buffer = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(buffer.buffer);
  let [first, last, ended] = [0, 0, false];
  const socket = connect({
    host: address,
    port,
    // One buffer for all reads, which causes no garbage collection.
    onread: {
      buffer,
      callback: (length) => {
        last = nowNanos();
        first ||= last;
        gaps.arrived(last);
        reader.read(view, length);
        words[0] = reader.position;
        words[1] = gaps.longest[0]?.nanos ?? 0;
        return true;
      },
    },
  });
  owner.onStop((settleMillis) => destroyAfter(socket, settleMillis));
  socket.on('connect', () => owner.post({ kind: 'connected' }));
  socket.on('end', () => {
    ended = true;
  });
  whenClosed(socket, (error) => {
    if (!ended) gaps.arrived(nowNanos()); // the wait for data that never came counts too
    const longestStall = gaps.longest[0] ?? { atNanos: first, nanos: 0 };
    const { position: bytes, wrongAt } = reader;
    owner.post({
      kind: 'received',
      result: { bytes, nanos: last - first, longestStall, wrongAt, ended, error },
    });
  });
}

function destroyAfter(socket: Socket, millis: number): void {
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

/** `RetransSegs` (RFC 4022) of the thread's namespace, in which only the download uses TCP. */
function retransmitted(): number {
  const rows = readFileSync('/proc/thread-self/net/snmp', 'ascii')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'));
  const [names, values] = rows.map((row) => row.split(' '));
  return Number(values![names!.indexOf('RetransSegs')]);
}
