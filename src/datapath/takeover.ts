/**
 * The first thing a worker does: finds out where every frame is, and goes on where another worker stopped.
 *
 * A new port has no attached path and an empty pool: then all frames are free. After a death the AF_XDP
 * and memory rings are simply attached again, their cursors being in shared memory. An io_uring died with
 * its thread: what it had received is handled first, what it had not submitted is sent, in order, by the
 * ring that replaces it.
 */
import type { Shim } from '../kernel/shim.ts';
import { pathCounters } from '../memory/counters.ts';
import { type FramePool, Holder, holderTag } from '../memory/frames.ts';
import { BURST, SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { adopt, attach, leftBehind, resumes } from '../paths/attach.ts';
import type { PathQueue, QueueAddress } from '../paths/path.ts';
import type { Burst } from './burst.ts';
import type { PortQueue } from './port-queue.ts';

interface Site {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly queue: number;
}

/** A packet that waits, outside any ring, for the new ring to be there. */
interface Waiting {
  readonly offset: number;
  readonly bytes: number;
}

export function takeOver(site: Site, ports: readonly PortQueue[]): void {
  const { shim, memory, pool, queue } = site;
  const orphans: { port: PortQueue; address: QueueAddress; left: PathQueue }[] = [];
  const found: PathQueue[] = [];
  const later: { port: PortQueue; address: QueueAddress }[] = [];
  const held: number[] = [];
  const unfinished: { address: QueueAddress; left: PathQueue }[] = [];
  ports.forEach((port, number) => {
    // Let go of, and perhaps not closed yet: the kernel may still write to its frames until the order to reclaim.
    for (const path of SLOT_PATHS) {
      if (port.acknowledged.includes(path)) continue;
      held.push(holderTag(number, path));
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
  pool.recover(found, held);

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

  for (const { port, address, left } of orphans) {
    const unsent: Waiting[] = [];
    left.takeBack((offset, bytes) => unsent.push({ offset, bytes }));
    const received = readOut(site, left);
    // In hand: reclaim must not take these for frames the dead ring still held.
    for (const { offset } of [...unsent, ...received]) pool.give(offset - memory.layout.frames, Holder.HAND);
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

/** What the dead worker's ring had received, oldest first. */
function readOut({ burst }: Site, left: PathQueue): Waiting[] {
  const received: Waiting[] = [];
  while (left.ready(BURST) > 0) {
    const count = left.receive(burst.offset, burst.bytes, BURST);
    for (let i = 0; i < count; i++) received.push({ offset: burst.offset[i]!, bytes: burst.bytes[i]! });
    left.release();
  }
  return received;
}

function handle({ burst }: Site, port: PortQueue, packets: readonly Waiting[], from: PathQueue): void {
  for (let at = 0; at < packets.length; at += BURST) {
    const some = packets.slice(at, at + BURST);
    some.forEach(({ offset, bytes }, i) => {
      burst.offset[i] = offset;
      burst.bytes[i] = bytes;
    });
    port.dispatch.run(some.length, from.path);
    port.dispatch.out?.flush();
  }
}
