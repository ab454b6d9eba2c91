/**
 * The stream of a capture: reads the rings of all queues of a port, and makes a pcapng file of the records. Belongs to the
 * control thread.
 */
import { countsOf, INTERFACES, type InterfaceCount } from '../capture/interfaces.ts';
import { RecordReceiver } from '../capture/records.ts';
import { DELIVER, DROP, FAILED, FORWARD, isTeed, PASS, TEE, TX } from '../handler/handler.ts';
import type { Memory } from '../memory/shared.ts';
import { Direction, XdpAction } from '../pcapng/format.ts';
import {
  enhancedPacketBytes,
  interfaceDescription,
  interfaceStatistics,
  type PacketRecord,
  putEnhancedPacket,
  sectionHeader,
} from '../pcapng/write.ts';

/** Verdicts as actions of XDP. An unknown one drops the packet. */
const ACTIONS: Readonly<Record<number, number>> = {
  [DROP]: XdpAction.DROP,
  [TX]: XdpAction.TX,
  [PASS]: XdpAction.PASS,
  [FORWARD]: XdpAction.REDIRECT,
  [DELIVER]: XdpAction.REDIRECT,
  [FAILED]: XdpAction.ABORTED,
};

/** Of a packet that goes its way while the application gets a copy, the action is that of its way. */
const actionOf = (verdict: number): number =>
  ACTIONS[isTeed(verdict) ? verdict & ~TEE : verdict] ?? XdpAction.DROP;

/** Bytes of blocks that are made at once. */
const CHUNK = 1 << 17;

export interface StreamOptions {
  readonly capture: number;
  readonly id: number;
  readonly filter: string;
  readonly snapLength: number;
  /** The name of the port's device. */
  readonly device: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Who writes the file. */
  readonly application: string;
  /** What to add to the times of records. */
  readonly clockOffset: bigint;
  readonly now: () => bigint;
}

export class CaptureStream {
  readonly #memory: Memory;
  readonly #options: StreamOptions;
  readonly #receivers: readonly RecordReceiver[];
  readonly #before: readonly InterfaceCount[];
  readonly #start: bigint;
  /** By interface. */
  readonly #delivered = INTERFACES.map(() => 0);

  constructor(memory: Memory, options: StreamOptions) {
    const { capture, id, now } = options;
    this.#memory = memory;
    this.#options = options;
    this.#before = countsOf(memory, capture);
    this.#receivers = Array.from(
      { length: memory.layout.geometry.queues },
      (_, queue) => new RecordReceiver(memory, capture, queue, id),
    );
    this.#start = now();
  }

  /** The blocks before the first packet. */
  head(): Uint8Array {
    const { application, device, mac, filter, snapLength } = this.#options;
    const blocks = [
      sectionHeader({ os: `Linux ${process.arch}`, application }),
      ...INTERFACES.map(({ name }) =>
        interfaceDescription({
          ...{ name, description: `${device}, ${name}`, mac, snapLength },
          ...(filter === '' ? {} : { filter }),
        }),
      ),
    ];
    return Buffer.concat(blocks);
  }

  /** The next packets, oldest first; undefined if there is none. */
  read(): Uint8Array | undefined {
    let chunk: Uint8Array | undefined;
    let view: DataView | undefined;
    let end = 0;
    for (let queue = this.#oldest(); queue >= 0; queue = this.#oldest()) {
      const receiver = this.#receivers[queue]!;
      const packet = this.#packet(receiver, queue);
      const bytes = enhancedPacketBytes(packet);
      if (end + bytes > CHUNK && chunk !== undefined) break;
      if (chunk === undefined || view === undefined) {
        chunk = new Uint8Array(Math.max(CHUNK, bytes));
        view = new DataView(chunk.buffer);
      }
      end = putEnhancedPacket(packet, view, end);
      this.#delivered[receiver.interface]!++;
      receiver.release();
    }
    return chunk?.subarray(0, end);
  }

  /** The blocks behind the last packet: what each interface has counted. */
  tail(): Uint8Array {
    const nanos = this.#options.now();
    const damaged = this.#receivers.reduce((sum, receiver) => sum + receiver.damaged, 0);
    const damage = `${damaged} times a ring was damaged, and the packets in it are missing and not counted`;
    return Buffer.concat(
      countsOf(this.#memory, this.#options.capture).map(({ seen, missed }, number) => {
        const before = this.#before[number]!;
        const delivered = this.#delivered[number]!;
        return interfaceStatistics({
          ...{ interface: number, nanos, start: this.#start, end: nanos },
          received: BigInt(seen - before.seen),
          // What workers have copied since is in no file, and counts for none.
          accepted: BigInt(delivered + missed - before.missed),
          dropped: BigInt(missed - before.missed),
          delivered: BigInt(delivered),
          ...(damaged > 0 && number === 0 ? { comment: damage } : {}),
        });
      }),
    );
  }

  #packet(receiver: RecordReceiver, queue: number): PacketRecord {
    const { seconds, nanos, verdict, at, copied, length, missed } = receiver;
    const sent = (receiver.interface & 1) === 1;
    return {
      interface: receiver.interface,
      nanos: BigInt(seconds) * 1_000_000_000n + BigInt(nanos) + this.#options.clockOffset,
      data: this.#memory.bytes.subarray(at, at + copied),
      length,
      direction: sent ? Direction.OUTBOUND : Direction.INBOUND,
      queue,
      ...(missed === 0 ? {} : { dropCount: missed }),
      ...(sent ? {} : { verdict: actionOf(verdict) }),
    };
  }

  /** The queue with the oldest record, -1 without one. */
  #oldest(): number {
    let found = -1;
    for (const [queue, receiver] of this.#receivers.entries()) {
      if (!receiver.next()) continue;
      const best = found < 0 ? undefined : this.#receivers[found]!;
      const older =
        best === undefined ||
        receiver.seconds < best.seconds ||
        (receiver.seconds === best.seconds && receiver.nanos < best.nanos);
      if (older) found = queue;
    }
    return found;
  }
}
