/**
 * The start of a worker: finds every frame, and continues where the last worker of the queue stopped.
 *
 * A new port has no attached path and an empty pool: then all frames are free. After a death the worker attaches to the
 * AF_XDP and memory rings again, whose cursors are in shared memory. An io_uring dies with its thread: the worker first
 * handles the packets that it had received, and sends those that it had not submitted, in order, by a new ring. Packets in
 * the thread's own buffers (a tap without io_uring, the host path) are lost, and counted.
 *
 * The packets of the dead worker's handler may have killed it: they are replayed one by one, see replay.ts. If that worker was
 * ended because its handler did not return, they are dropped, and counted.
 */

import { codeOf, FrameOwner, isDelivery, ownerTag, purposeOf, tagOf } from '../memory/bit-fields.ts';
import { pathCounters, queueCounters } from '../memory/counters.ts';
import type { FrameUser } from '../memory/frame-owners.ts';
import { type QueueAddress, SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { adopt, attach, isOrphaned, resumes } from '../paths/attach.ts';
import type { OrphanedRing } from '../paths/attached-path.ts';
import {
  handlingInPlace,
  handlingPackets,
  handlingPort,
  handlingSource,
  handoffSource,
} from './handler-call.ts';
import type { PortQueue } from './port-queue.ts';
import { handoffAsSource, type Moved, type PacketSource, pathAsSource, Replay } from './replay.ts';
import type { Scope } from './scope.ts';

/** The scope of a queue on all ports. */
type QueueScope = Omit<Scope, 'port'>;

/** A ring that died with its thread, and the queue of it. */
interface OrphanedQueue {
  readonly port: PortQueue;
  readonly replay: Replay;
  readonly address: QueueAddress;
  readonly ring: OrphanedRing;
}

/** A packet outside any ring, until the new ring is open. */
interface UnsentPacket {
  readonly offset: number;
  readonly bytes: number;
}

export function takeOver(scope: QueueScope, ports: readonly PortQueue[]): void {
  const { memory, pool, queue } = scope;
  const orphans: OrphanedQueue[] = [];
  const readable: FrameUser[] = [];
  const later: { port: PortQueue; address: QueueAddress }[] = [];
  const held: number[] = [];
  const unfinished: { address: QueueAddress; ring: OrphanedRing }[] = [];
  const replays = ports.map((_, number) => new Replay({ ...scope, port: number }));
  ports.forEach((port, number) => {
    // Left, and perhaps not closed yet: the kernel may still write to its frames until the order to reclaim.
    for (const path of SLOT_PATHS) {
      if (port.ownerSwitch.acknowledgedPaths.includes(path)) continue;
      held.push(ownerTag(queue, number, path));
      const address = { port: number, queue, path };
      if (isOrphaned(memory, address)) unfinished.push({ address, ring: adopt(scope, address) });
    }
    for (const path of port.ownerSwitch.acknowledgedPaths) {
      const address = { port: number, queue, path };
      if (isOrphaned(memory, address)) {
        const ring = adopt(scope, address);
        orphans.push({ port, replay: replays[number]!, address, ring });
        readable.push(ring);
      } else if (resumes(memory, address)) {
        const attached = attach(scope, address, port.softwareRss)!;
        port.ownerSwitch.adopt(attached);
        readable.push(attached);
      } else later.push({ port, address });
    }
  });
  const inHand = wasInHand(scope);
  const losses = new Losses(inHand?.port ?? 0);
  pool.owners.recover(
    readable,
    held,
    [
      ...ports.flatMap(({ softwareRss }) => softwareRss?.outgoing ?? []),
      ...replays.map(({ outgoing }) => outgoing),
      ...ports.map(({ dispatch }) => dispatch.delivery),
    ],
    (owner) => losses.add(owner),
  );
  for (const { softwareRss } of ports) softwareRss?.listen();
  for (const replay of replays) replay.listen();

  // Opened in a switch that was never acknowledged: the pending order opens another.
  for (const { address, ring } of unfinished) {
    ring.detach();
    reclaim(scope, address, ring);
  }

  for (const { address } of later) losses.count(scope, ports, address, inHand);
  losses.countHandoffs(scope, ports);
  if (inHand !== undefined) setAside(scope, ports, replays, inHand, orphans);
  memory.workers[queue]!.handling = 0;

  // A new tap ring takes frames at once, so it is opened only when the free ones are known.
  for (const { port, address } of later) {
    const attached = attach(scope, address, port.softwareRss);
    if (attached !== undefined) port.ownerSwitch.adopt(attached);
  }

  for (const { port, replay, address, ring } of orphans) {
    const unsent: UnsentPacket[] = [];
    ring.tx.reclaimUnsent((offset, bytes) => unsent.push({ offset, bytes }));
    // In hand, so that reclaim does not free these with the frames of the dead ring.
    for (const { offset } of unsent) pool.setOwner(offset - memory.layout.frames, pool.hand);
    const received = pathAsSource(ring);
    replay.take(received, Number.POSITIVE_INFINITY);
    // There is room, unless several workers in a row have died in replays.
    replay.drop(received, Number.POSITIVE_INFINITY, port.dispatch, 'dropWorkerDied');
    ring.detach();
    reclaim(scope, address, ring);

    const fresh = attach(scope, address, port.softwareRss);
    if (fresh !== undefined) port.ownerSwitch.adopt(fresh);
    port.ownerSwitch.resume();
    for (const { offset, bytes } of unsent) port.dispatch.resend(offset, bytes);
    port.dispatch.out?.tx.flush();
  }
  ports.forEach((port, number) => {
    port.replay(replays[number]!);
    port.ownerSwitch.resume();
  });
}

function reclaim(
  { memory, pool }: QueueScope,
  { port, queue, path }: QueueAddress,
  ring: OrphanedRing,
): void {
  memory.doubles[pathCounters(memory, port, queue, path).txUnknown]! += pool.owners.reclaim(ring.tag).tx;
}

/** The packets of a dead worker's last call of its handler. */
interface InHand {
  readonly port: number;
  /** A path, or a handoff ring by `handoffSource`. */
  readonly source: number;
  readonly packets: number;
  /** Whether the dead worker had counted them when it received them. */
  readonly counted: boolean;
  /** Whether the worker was ended because its handler did not return. */
  readonly stuck: boolean;
}

/** Undefined if the dead worker was not in its handler, or its handler had no packets. */
function wasInHand({ memory, queue }: QueueScope): InHand | undefined {
  const worker = memory.workers[queue]!;
  const { handling } = worker;
  const stuck = Atomics.exchange(memory.words, worker.at('stuck'), 0) === 1;
  const packets = handlingPackets(handling);
  if (handling === 0 || packets === 0) return undefined;
  return {
    port: handlingPort(handling),
    source: handlingSource(handling),
    packets,
    counted: !handlingInPlace(handling),
    stuck,
  };
}

/** Moves the packets in hand to the replay ring; or drops them, if they would end this worker too. */
function setAside(
  { memory, queue }: QueueScope,
  ports: readonly PortQueue[],
  replays: readonly Replay[],
  { port, source, packets, counted, stuck }: InHand,
  orphans: readonly OrphanedQueue[],
): void {
  const { dispatch, paths, softwareRss } = ports[port]!;
  const replay = replays[port]!;
  const why = stuck ? 'dropStuck' : 'dropWorkerDied';
  if (source === replay.source) {
    const { suspects } = replay;
    if (stuck || (packets === 1 && suspects > 0)) {
      const dropped = replay.drop(replay.head, packets, dispatch, why);
      replay.suspects = Math.max(0, suspects - dropped.packets);
    } else replay.suspects = Math.max(suspects, packets);
    return;
  }
  const orphan = orphans.find(({ address, ring }) => ring.path === source && address.port === port);
  const path = orphan?.ring ?? paths.find((one) => one.path === source);
  const handoff = softwareRss?.receivers.find(({ from }) => handoffSource(from) === source);
  const from: PacketSource | undefined = path ? pathAsSource(path) : handoff && handoffAsSource(handoff);
  if (from === undefined) return; // they were in the thread's own buffers: see Losses
  const moved = stuck ? replay.drop(from, packets, dispatch, why) : replay.take(from, packets);
  if (!stuck) replay.suspects = replay.pending;
  if (path !== undefined && counted) uncount(memory, { port, queue, path: path.path }, moved);
  // Packets without room stay in place, and are handled as if they had not been in hand.
  if (from.ready(1) === 0) dispatch.lost(packets - moved.packets, why);
}

/** Corrects the counters: the dead worker had counted packets that are received again. */
function uncount(memory: Memory, { port, queue, path }: QueueAddress, { packets, bytes }: Moved): void {
  const counter = pathCounters(memory, port, queue, path);
  memory.doubles[counter.rxPackets]! -= packets;
  memory.doubles[counter.rxBytes]! -= bytes;
}

/**
 * Packets whose frames a path or a handoff ring of the dead worker owns, and that are in no ring: they were in arrays of its
 * own. They are counted as `dropWorkerDied`; those in hand of a handler that did not return, as `dropStuck`.
 */
class Losses {
  /** Frames by the tag of their path: read from it, and to be written to it. */
  readonly #read = new Map<number, number>();
  readonly #written = new Map<number, number>();
  /** Frames that were to be handed over. The owner does not say of which port: they count for this one. */
  #handedOver = 0;
  /** Frames that were to be delivered, and not counted as such: the same. */
  #undelivered = 0;
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  add(owner: number): void {
    const purpose = purposeOf(owner);
    if (purpose === 0) {
      if (codeOf(owner) === FrameOwner.HANDOFF) this.#handedOver++;
      else if (isDelivery(owner)) this.#undelivered++;
      return;
    }
    const frames = purpose === FrameOwner.FILL ? this.#read : this.#written;
    frames.set(tagOf(owner), (frames.get(tagOf(owner)) ?? 0) + 1);
  }

  /** For a path whose queue has packets in arrays of its own, before it is attached again. */
  count(
    { memory, queue }: QueueScope,
    ports: readonly PortQueue[],
    { port, path }: QueueAddress,
    inHand: InHand | undefined,
  ): void {
    const { doubles } = memory;
    const tag = ownerTag(queue, port, path);
    const slot = memory.slot({ port, queue, path });
    const theirs = inHand?.port === port && inHand.source === path ? inHand : undefined;
    const given = theirs?.packets ?? 0;
    const { held } = slot;
    slot.held = 0;
    const read = this.#read.get(tag) ?? given; // the host's packets are not in frames
    // Packets that were read and not yet received when the handler was called have not been counted as received. A worker
    // that died outside its handler may have received all of them.
    const unreceived = held + (inHand === undefined ? 0 : read - given);
    doubles[pathCounters(memory, port, queue, path).rxPackets]! += unreceived;
    const { dispatch } = ports[port]!;
    dispatch.lost(given, theirs?.stuck ? 'dropStuck' : 'dropWorkerDied');
    dispatch.lost(read - given + held + (this.#written.get(tag) ?? 0), 'dropWorkerDied');
  }

  countHandoffs({ memory, queue }: QueueScope, ports: readonly PortQueue[]): void {
    ports[this.#port]!.dispatch.lost(this.#handedOver + this.#undelivered, 'dropWorkerDied');
    memory.doubles[queueCounters(memory, this.#port, queue).handedOver]! -= this.#handedOver;
  }
}
