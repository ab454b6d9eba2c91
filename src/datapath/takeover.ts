/**
 * The first thing a worker does: finds out where every frame is, and goes on where another worker stopped.
 *
 * A new port has no attached path and an empty pool: then all frames are free. After a death the AF_XDP
 * and memory rings are simply attached again, their cursors being in shared memory. An io_uring died with
 * its thread: what it had received is handled first, what it had not submitted is sent, in order, by the
 * ring that replaces it.
 *
 * A worker that was ended because its handler did not return would meet the same packets again: what it had
 * in hand is dropped, and counted.
 */
import type { Shim } from '../kernel/shim.ts';
import { pathCounters } from '../memory/counters.ts';
import type { FrameHolder, FramePool } from '../memory/frames.ts';
import { holderTag } from '../memory/holder.ts';
import { BURST, SLOT_PATHS, WorkerBlock } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { handlingPackets, handlingPort, handlingSource, handlingTurn, laneSource } from '../memory/words.ts';
import { adopt, attach, leftBehind, resumes } from '../paths/attach.ts';
import type { LeftQueue, QueueAddress } from '../paths/path.ts';
import type { Burst } from './burst.ts';
import type { PortQueue } from './port-queue.ts';

interface Site {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly queue: number;
}

/** A ring that died with its thread. */
interface Orphan {
  readonly port: PortQueue;
  readonly address: QueueAddress;
  readonly left: LeftQueue;
}

/** A packet that waits, outside any ring, for the new ring to be there. */
interface Waiting {
  readonly offset: number;
  readonly bytes: number;
}

export function takeOver(site: Site, ports: readonly PortQueue[]): void {
  const { shim, memory, pool, queue } = site;
  const orphans: Orphan[] = [];
  const found: FrameHolder[] = [];
  const later: { port: PortQueue; address: QueueAddress }[] = [];
  const held: number[] = [];
  const unfinished: { address: QueueAddress; left: LeftQueue }[] = [];
  ports.forEach((port, number) => {
    // Let go of, and perhaps not closed yet: the kernel may still write to its frames until the order to reclaim.
    for (const path of SLOT_PATHS) {
      if (port.acknowledged.includes(path)) continue;
      held.push(holderTag(queue, number, path));
      const address = { port: number, queue, path };
      if (leftBehind(memory, address)) unfinished.push({ address, left: adopt(shim, memory, pool, address) });
    }
    for (const path of port.acknowledged) {
      const address = { port: number, queue, path };
      if (leftBehind(memory, address)) {
        const left = adopt(shim, memory, pool, address);
        orphans.push({ port, address, left });
        found.push(left);
      } else if (resumes(memory, address)) {
        const attached = attach(shim, memory, pool, address)!;
        port.adopt(attached);
        found.push(attached);
      } else later.push({ port, address });
    }
  });
  pool.recover(
    found,
    held,
    ports.flatMap(({ split }) => split?.outgoing ?? []),
  );
  for (const { split } of ports) split?.listen();
  const culprits = inHand(site);
  const isTheirs = ({ address, left }: Orphan): boolean =>
    culprits?.source === left.path && culprits.port === address.port;
  if (culprits !== undefined && !orphans.some(isTheirs)) discard(site, ports, culprits);

  // Opened in a switch that was never acknowledged: the order that is still there opens another.
  for (const { address, left } of unfinished) {
    left.detach();
    const lost = pool.reclaim(left.tag);
    memory.doubles[pathCounters(memory, address.port, queue, address.path).txUnknown]! += lost.tx;
  }

  // A new tap ring takes frames at once: only now is it known which ones are free.
  for (const { port, address } of later) {
    const attached = attach(shim, memory, pool, address);
    if (attached !== undefined) port.adopt(attached);
  }

  for (const orphan of orphans) {
    const { port, address, left } = orphan;
    const unsent: Waiting[] = [];
    left.takeBack((offset, bytes) => unsent.push({ offset, bytes }));
    const received = readOut(site, left);
    // In hand: reclaim must not take these for frames the dead ring still held.
    for (const { offset } of [...unsent, ...received]) pool.give(offset - memory.layout.frames, pool.hand);
    if (isTheirs(orphan)) {
      const again = received.splice(0, culprits!.packets);
      for (const { offset } of again) port.dispatch.discard(offset);
      uncount(memory, address, again);
    }
    left.detach();
    const lost = pool.reclaim(left.tag);
    memory.doubles[pathCounters(memory, address.port, queue, address.path).txUnknown]! += lost.tx;

    const fresh = attach(shim, memory, pool, address);
    if (fresh !== undefined) port.adopt(fresh);
    port.resume();
    for (const { offset, bytes } of unsent) port.dispatch.resend(offset, bytes);
    port.dispatch.out?.flush();
    handle(site, port, received, left);
  }
  for (const port of ports) port.resume();
}

interface Culprits {
  readonly port: number;
  /** A path, or a lane by `laneSource`. */
  readonly source: number;
  readonly packets: number;
  /** Whether the dead worker had counted them when it received them. */
  readonly counted: boolean;
}

/** What the handler of a worker that was stuck had been given; undefined if it was not stuck. */
function inHand({ memory, queue }: Site): Culprits | undefined {
  const { words, layout } = memory;
  const block = layout.worker(queue);
  const handling = words[(block + WorkerBlock.handling) >> 2]!;
  const stuck = Atomics.exchange(words, (block + WorkerBlock.stuck) >> 2, 0) === 1;
  words[(block + WorkerBlock.handling) >> 2] = 0;
  if (!stuck || handling === 0) return undefined;
  return {
    port: handlingPort(handling),
    source: handlingSource(handling),
    packets: handlingPackets(handling),
    counted: !handlingTurn(handling),
  };
}

/** The dead worker had counted them when it received them. */
function uncount(memory: Memory, { port, queue, path }: QueueAddress, packets: readonly Waiting[]): void {
  const counter = pathCounters(memory, port, queue, path);
  memory.doubles[counter.rxPackets]! -= packets.length;
  memory.doubles[counter.rxBytes]! -= packets.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Drops them where they lie in rings that outlive a worker, or in a lane; what lay in its own buffers is gone. */
function discard(site: Site, ports: readonly PortQueue[], culprits: Culprits): void {
  const { port, source, packets, counted } = culprits;
  const { memory, queue, burst } = site;
  const { dispatch, paths, split } = ports[port]!;
  const { offset, bytes, hash } = burst;
  const path = paths.find((one) => one.path === source);
  const lane = split?.receivers.find(({ from }) => laneSource(from) === source);
  if (path !== undefined) {
    for (let left = packets; left > 0; ) {
      const again: Waiting[] = [];
      const count = path.receive(offset, bytes, Math.min(left, BURST));
      if (count === 0) break;
      for (let i = 0; i < count; i++) again.push({ offset: offset[i]!, bytes: bytes[i]! });
      for (const { offset: at } of again) dispatch.discard(at);
      path.release();
      if (counted) uncount(memory, { port, queue, path: path.path }, again);
      left -= count;
    }
  } else if (lane !== undefined && lane.ready(packets) > 0) {
    const count = lane.receive(offset, bytes, hash, packets);
    for (let i = 0; i < count; i++) dispatch.discard(offset[i]!);
    lane.release(count);
  } else dispatch.lost(packets);
}

/** What the dead worker's ring had received, oldest first. */
function readOut({ burst }: Site, left: LeftQueue): Waiting[] {
  const received: Waiting[] = [];
  while (left.ready(BURST) > 0) {
    const count = left.receive(burst.offset, burst.bytes, BURST);
    for (let i = 0; i < count; i++) received.push({ offset: burst.offset[i]!, bytes: burst.bytes[i]! });
    left.release();
  }
  return received;
}

function handle({ burst }: Site, port: PortQueue, packets: readonly Waiting[], from: LeftQueue): void {
  for (let at = 0; at < packets.length; at += BURST) {
    const some = packets.slice(at, at + BURST);
    some.forEach(({ offset, bytes }, i) => {
      burst.offset[i] = offset;
      burst.bytes[i] = bytes;
    });
    const own = port.split?.divide(some.length, from.path) ?? some.length;
    if (own > 0) port.dispatch.run(own, from.path);
    port.dispatch.out?.flush();
  }
}
