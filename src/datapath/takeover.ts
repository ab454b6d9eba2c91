/**
 * The first thing a worker does: finds out where every frame is, and goes on where another worker stopped.
 *
 * A new port has no attached path and an empty pool: then all frames are free. After a death the AF_XDP
 * and memory rings are simply attached again, their cursors being in shared memory. An io_uring died with
 * its thread: what it had received is handled first, what it had not submitted is sent, in order, by the
 * ring that replaces it. What lay in buffers of the thread's own (a tap without io_uring, the host path) is lost, and
 * counted.
 *
 * What the dead worker's handler had been given may have killed it: it is replayed packet by packet, see replay.ts. A
 * worker that was ended because its handler did not return would meet the same packets again: what it had in hand is
 * dropped, and counted.
 */

import {
  codeOf,
  FrameOwner,
  handlingInPlace,
  handlingPackets,
  handlingPort,
  handlingSource,
  handoffSource,
  ownerTag,
  purposeOf,
  tagOf,
} from '../memory/bit-fields.ts';
import { pathCounters, queueCounters } from '../memory/counters.ts';
import type { FrameUser } from '../memory/frame-owners.ts';
import { type QueueAddress, SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { adopt, attach, isOrphaned, resumes } from '../paths/attach.ts';
import type { OrphanedRing } from '../paths/attached-path.ts';
import type { PortQueue } from './port-queue.ts';
import { handoffAsSource, type Moved, type PacketSource, pathAsSource, Replay } from './replay.ts';
import type { Scope } from './scope.ts';

type Site = Omit<Scope, 'port'>;

/** A ring that died with its thread. */
interface OrphanedQueue {
  readonly port: PortQueue;
  readonly replay: Replay;
  readonly address: QueueAddress;
  readonly left: OrphanedRing;
}

/** A packet that waits, outside any ring, for the new ring to be there. */
interface UnsentPacket {
  readonly offset: number;
  readonly bytes: number;
}

export function takeOver(site: Site, ports: readonly PortQueue[]): void {
  const { memory, pool, queue } = site;
  const orphans: OrphanedQueue[] = [];
  const found: FrameUser[] = [];
  const later: { port: PortQueue; address: QueueAddress }[] = [];
  const held: number[] = [];
  const unfinished: { address: QueueAddress; left: OrphanedRing }[] = [];
  const replays = ports.map((_, number) => new Replay({ ...site, port: number }));
  ports.forEach((port, number) => {
    // Let go of, and perhaps not closed yet: the kernel may still write to its frames until the order to reclaim.
    for (const path of SLOT_PATHS) {
      if (port.ownerSwitch.acknowledgedPaths.includes(path)) continue;
      held.push(ownerTag(queue, number, path));
      const address = { port: number, queue, path };
      if (isOrphaned(memory, address)) unfinished.push({ address, left: adopt(site, address) });
    }
    for (const path of port.ownerSwitch.acknowledgedPaths) {
      const address = { port: number, queue, path };
      if (isOrphaned(memory, address)) {
        const left = adopt(site, address);
        orphans.push({ port, replay: replays[number]!, address, left });
        found.push(left);
      } else if (resumes(memory, address)) {
        const attached = attach(site, address, port.softwareRss)!;
        port.ownerSwitch.adopt(attached);
        found.push(attached);
      } else later.push({ port, address });
    }
  });
  const inHand = wasInHand(site);
  const losses = new Losses(inHand?.port ?? 0);
  pool.owners.recover(
    found,
    held,
    [
      ...ports.flatMap(({ softwareRss }) => softwareRss?.outgoing ?? []),
      ...replays.map(({ outgoing }) => outgoing),
    ],
    (owner) => losses.add(owner),
  );
  for (const { softwareRss } of ports) softwareRss?.listen();
  for (const replay of replays) replay.listen();

  // Opened in a switch that was never acknowledged: the order that is still there opens another.
  for (const { address, left } of unfinished) {
    left.detach();
    reclaim(site, address, left);
  }

  for (const { address } of later) losses.count(site, ports, address, inHand);
  losses.countHandoffs(site, ports);
  if (inHand !== undefined) setAside(site, ports, replays, inHand, orphans);
  memory.workers[queue]!.handling = 0;

  // A new tap ring takes frames at once: only now is it known which ones are free.
  for (const { port, address } of later) {
    const attached = attach(site, address, port.softwareRss);
    if (attached !== undefined) port.ownerSwitch.adopt(attached);
  }

  for (const { port, replay, address, left } of orphans) {
    const unsent: UnsentPacket[] = [];
    left.tx.reclaimUnsent((offset, bytes) => unsent.push({ offset, bytes }));
    // In hand: reclaim must not take these for frames the dead ring still held.
    for (const { offset } of unsent) pool.setOwner(offset - memory.layout.frames, pool.hand);
    const received = pathAsSource(left);
    replay.take(received, Number.POSITIVE_INFINITY);
    // There is room, unless several workers in a row have died in the replay of what the one before had received.
    replay.drop(received, Number.POSITIVE_INFINITY, port.dispatch, 'dropWorkerDied');
    left.detach();
    reclaim(site, address, left);

    const fresh = attach(site, address, port.softwareRss);
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

function reclaim({ memory, pool }: Site, { port, queue, path }: QueueAddress, left: OrphanedRing): void {
  memory.doubles[pathCounters(memory, port, queue, path).txUnknown]! += pool.owners.reclaim(left.tag).tx;
}

/** What the handler of a dead worker had been given. */
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

/** Undefined if the dead worker was not in its handler, or it had been given nothing. */
function wasInHand({ memory, queue }: Site): InHand | undefined {
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

/** Moves what was in hand to where it is replayed; or drops it, if it is known that it would kill this worker too. */
function setAside(
  { memory, queue }: Site,
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
  const orphan = orphans.find(({ address, left }) => left.path === source && address.port === port);
  const path = orphan?.left ?? paths.find((one) => one.path === source);
  const handoff = softwareRss?.receivers.find(({ from }) => handoffSource(from) === source);
  const from: PacketSource | undefined = path ? pathAsSource(path) : handoff && handoffAsSource(handoff);
  if (from === undefined) return; // it lay in the thread's own buffers: see Losses
  const moved = stuck ? replay.drop(from, packets, dispatch, why) : replay.take(from, packets);
  if (!stuck) replay.suspects = replay.pending;
  if (path !== undefined && counted) uncount(memory, { port, queue, path: path.path }, moved);
  // What found no room stays where it is, and is handled as if it had not been in hand.
  if (from.ready(1) === 0) dispatch.lost(packets - moved.packets, why);
}

/** The dead worker had counted them when it received them, and they were received again. */
function uncount(memory: Memory, { port, queue, path }: QueueAddress, { packets, bytes }: Moved): void {
  const counter = pathCounters(memory, port, queue, path);
  memory.doubles[counter.rxPackets]! -= packets;
  memory.doubles[counter.rxBytes]! -= bytes;
}

/**
 * Packets whose frames were with a path or in a handoff ring of the dead worker's, and that are in no ring: they lay in arrays of
 * its own. They are counted as `dropWorkerDied`; those that it had in hand when it did not return, as `dropStuck`.
 */
class Losses {
  /** Frames by the tag of their path: read from it, and to be written to it. */
  readonly #read = new Map<number, number>();
  readonly #written = new Map<number, number>();
  /** Frames that were to be handed over. The handoff ring does not say of which port: it is taken for this one's. */
  #handedOver = 0;
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  add(owner: number): void {
    const purpose = purposeOf(owner);
    if (purpose === 0) {
      if (codeOf(owner) === FrameOwner.HANDOFF) this.#handedOver++;
      return;
    }
    const frames = purpose === FrameOwner.FILL ? this.#read : this.#written;
    frames.set(tagOf(owner), (frames.get(tagOf(owner)) ?? 0) + 1);
  }

  /** For a path whose queue keeps packets in arrays of its own, before it is attached again. */
  count(
    { memory, queue }: Site,
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
    const read = this.#read.get(tag) ?? given; // the host's packets are in no frame
    // What was read, and not yet received when the handler was called, has not been counted as received either. A worker
    // that died outside its handler may have received all of it.
    const unreceived = held + (inHand === undefined ? 0 : read - given);
    doubles[pathCounters(memory, port, queue, path).rxPackets]! += unreceived;
    const { dispatch } = ports[port]!;
    dispatch.lost(given, theirs?.stuck ? 'dropStuck' : 'dropWorkerDied');
    dispatch.lost(read - given + held + (this.#written.get(tag) ?? 0), 'dropWorkerDied');
  }

  countHandoffs({ memory, queue }: Site, ports: readonly PortQueue[]): void {
    ports[this.#port]!.dispatch.lost(this.#handedOver, 'dropWorkerDied');
    memory.doubles[queueCounters(memory, this.#port, queue).handedOver]! -= this.#handedOver;
  }
}
