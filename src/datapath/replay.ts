/**
 * What a dead worker of this queue had in hand is handled again, one packet at a time: one of them may have killed it.
 *
 * When a worker dies in its handler, its successor moves the packets that the handler had been given into a handoff ring from
 * the worker to itself, the replay ring, and says how many are suspects. The handler gets those one by one. A worker
 * that dies with one suspect in hand was killed by that packet, its second worker: the next one drops it, and counts it
 * (`dropWorkerDied`). So a deadly packet costs two workers and nothing but itself, and a worker that died of something
 * else costs nothing. What an io_uring had received when it died with its worker goes the same way, in bursts.
 *
 * All of it is in shared memory, and none of it is looked at for a packet that is not replayed: which packets are in
 * hand is said per call of the handler (`handlingWord`), and a worker that has replayed all looks at the handoff ring no more.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */

import type { Burst } from '../handler/burst.ts';
import { HandoffKind, handoffPath, handoffSource } from '../memory/bit-fields.ts';
import type { Enumerable } from '../memory/frame-owners.ts';
import type { FramePool } from '../memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../memory/handoff.ts';
import { BURST, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { Receiver } from '../paths/path.ts';
import type { DeathCounter, Dispatch } from './dispatch.ts';
import type { Scope } from './scope.ts';
import type { SoftwareRss } from './software-rss.ts';

/** Where packets of a dead worker lie: a path, what is left of one, or a handoff ring. */
export interface PacketSource {
  /** Of the packets that {@link read} has brought. */
  readonly path: PathId;
  ready(max: number): number;
  /** The next packets into the burst, `max` at most. They stay where they are until {@link release}. */
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

  /** The number by which `handlingWord` names the handoff ring. */
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

  /** Once the pool is whole: what the dead worker had replayed is passed over. */
  listen(): void {
    this.#receiver = new HandoffReceiver(this.#memory, this.#pool, this.#port, this.#queue, this.#queue);
  }

  /** Moves up to `most` packets in here, oldest first. Tells how many, and their bytes. */
  take(source: PacketSource, most: number): Moved {
    const { offset, bytes, hash } = this.#burst;
    return this.#each(source, Math.min(most, this.#sender.room(most)), (i) => {
      this.#sender.push(offset[i]!, bytes[i]!, HandoffKind.PACKET, source.path, hash[i]!);
    });
  }

  /** Drops up to `most` packets where they lie, oldest first. Tells how many, and their bytes. */
  drop(source: PacketSource, most: number, dispatch: Dispatch, why: DeathCounter): Moved {
    const { offset } = this.#burst;
    return this.#each(source, most, (i) => dispatch.discard(offset[i]!, why));
  }

  /** The handoff ring itself as a source. */
  get head(): PacketSource {
    return handoffAsSource(this.#receiver!);
  }

  /** Handles the next suspect, or up to a burst of what is no suspect. Returns the packets. */
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

/** A path's ring, or what is left of one. */
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
