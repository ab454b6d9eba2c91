/**
 * Replays the packets that a dead worker of this queue had in hand, one at a time: one of them may have killed it.
 *
 * When a worker dies in its handler, its successor moves the packets of that call into a handoff ring from the worker to
 * itself, the replay ring, and stores how many are suspects. The handler gets those one by one. If a worker dies with one
 * suspect in hand, that packet has killed two workers: the next worker drops it, and counts it (`dropWorkerDied`). So a deadly
 * packet ends two workers and loses no other packet; a worker that died of another cause loses none. The packets that an
 * io_uring had received when it died with its worker are replayed too, in bursts.
 *
 * All of this is in shared memory, and costs nothing for other packets: the packets in hand are written down once per call
 * of the handler (`handlingWord`), and a worker does not read an empty replay ring again.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { HandoffKind, handoffPath } from '../memory/bit-fields.ts';
import type { Enumerable } from '../memory/frame-owners.ts';
import type { FramePool } from '../memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../memory/handoff.ts';
import { BURST, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { Receiver } from '../paths/path.ts';
import type { DeathCounter, Dispatch } from './dispatch.ts';
import { handoffSource } from './handler-call.ts';
import type { Scope } from './scope.ts';
import type { SoftwareRss } from './software-rss.ts';

/** A place with packets of a dead worker: a path, an orphaned ring, or a handoff ring. */
export interface PacketSource {
  /** Of the packets of the last {@link read}. */
  readonly path: PathId;
  ready(max: number): number;
  /** Writes the next packets to the burst, `max` at most. They stay in place until {@link release}. */
  read(burst: Burst, max: number): number;
  release(count: number): void;
}

/** How many packets were moved or dropped, and their bytes. */
export interface Moved {
  readonly packets: number;
  readonly bytes: number;
}

export class Replay {
  /** For the pool: the frames in the handoff ring. */
  readonly outgoing: Enumerable;
  readonly #memory: Memory;
  readonly #pool: FramePool;
  readonly #burst: Burst;
  readonly #port: number;
  readonly #queue: number;
  readonly #sender: HandoffSender;
  readonly #suspectsAt: number;
  #receiver: HandoffReceiver | undefined;

  constructor({ memory, pool, burst, port, queue }: Scope) {
    this.#memory = memory;
    this.#pool = pool;
    this.#burst = burst;
    this.#port = port;
    this.#queue = queue;
    this.#sender = new HandoffSender(memory, pool, port, queue, queue);
    this.#suspectsAt = memory.queue(port, queue).at('suspects');
    this.outgoing = this.#sender;
  }

  /** The number of the replay ring in `handlingWord`. */
  get source(): number {
    return handoffSource(this.#queue);
  }

  /** Packets that wait. */
  get pending(): number {
    return this.#receiver!.pending();
  }

  /** Packets at the head that are handled one by one. */
  get suspects(): number {
    return this.#memory.words[this.#suspectsAt]!;
  }

  set suspects(packets: number) {
    this.#memory.words[this.#suspectsAt] = packets;
  }

  /** Once the pool is whole: releases the packets that the dead worker had replayed. */
  listen(): void {
    this.#receiver = new HandoffReceiver(this.#memory, this.#pool, this.#port, this.#queue, this.#queue);
  }

  /** Moves up to `most` packets into the replay ring, oldest first. */
  take(source: PacketSource, most: number): Moved {
    const { offset, bytes, hash } = this.#burst;
    return this.#each(source, Math.min(most, this.#sender.room(most)), (i) => {
      this.#sender.push(offset[i]!, bytes[i]!, HandoffKind.PACKET, source.path, hash[i]!);
    });
  }

  /** Drops up to `most` packets in place, oldest first. */
  drop(source: PacketSource, most: number, dispatch: Dispatch, why: DeathCounter): Moved {
    const { offset } = this.#burst;
    return this.#each(source, most, (i) => dispatch.discard(offset[i]!, why));
  }

  /** The replay ring as a source. */
  get head(): PacketSource {
    return handoffAsSource(this.#receiver!);
  }

  /** Handles the next suspect, or up to a burst of other packets. Returns how many. */
  next(dispatch: Dispatch, softwareRss: SoftwareRss | undefined): number {
    const receiver = this.#receiver!;
    const { suspects } = this;
    if (receiver.ready(1) === 0) {
      this.suspects = 0;
      return 0;
    }
    const { offset, bytes, hash } = this.#burst;
    const path = handoffPath(receiver.meta);
    const count = receiver.receive(offset, bytes, hash, suspects > 0 ? 1 : BURST);
    const own = softwareRss === undefined ? count : softwareRss.distribute(count, path);
    if (own > 0) dispatch.run(own, path, this.source);
    receiver.release(count);
    if (suspects > 0) this.suspects = suspects - 1;
    return count;
  }

  #each(source: PacketSource, most: number, visit: (i: number) => void): Moved {
    let packets = 0;
    let bytes = 0;
    while (packets < most && source.ready(1) > 0) {
      const count = source.read(this.#burst, Math.min(most - packets, BURST));
      for (let i = 0; i < count; i++) {
        visit(i);
        bytes += this.#burst.bytes[i]!;
      }
      packets += count;
      this.#sender.commit();
      source.release(count);
    }
    return { packets, bytes };
  }
}

export function handoffAsSource(handoff: HandoffReceiver): PacketSource {
  let path: PathId = 0;
  return {
    get path() {
      return path;
    },
    ready: (max) => handoff.ready(max),
    read: ({ offset, bytes, hash }, max) => {
      path = handoffPath(handoff.meta);
      return handoff.receive(offset, bytes, hash, max);
    },
    release: (count) => handoff.release(count),
  };
}

/** A path, or an orphaned ring. */
export function pathAsSource(path: {
  readonly path: PathId;
  readonly rx: Pick<Receiver, 'ready' | 'receive' | 'release'>;
}): PacketSource {
  const { rx } = path;
  return {
    path: path.path,
    ready: (max) => rx.ready(max),
    read: (burst, max) => {
      const count = rx.receive(burst, max);
      burst.hash.fill(0, 0, count);
      return count;
    },
    release: () => rx.release(),
  };
}
