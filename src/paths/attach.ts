/** Which path queue serves an open path slot. Worker only. */
import { kernelIsAtLeast } from '../kernel/release.ts';
import type { Shim } from '../kernel/shim.ts';
import { passedOver } from '../kernel/xdp-statistics.ts';
import type { FramePool } from '../memory/frames.ts';
import { Driver, type QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { HostQueue } from './host/queue.ts';
import { LoopQueue } from './memory/loop.ts';
import type { LeftQueue, PathQueue } from './path.ts';
import { RingQueue } from './ring-queue.ts';
import { SegmentSender } from './segments.ts';
import { PlainQueue } from './tap/plain-queue.ts';
import { UringQueue } from './tap/uring-queue.ts';
import { UringRemains } from './tap/uring-remains.ts';

/**
 * Attaches to an open slot, continuing where another worker left it if there was one.
 *
 * @returns undefined if the slot is closed
 */
export function attach(
  shim: Shim,
  memory: Memory,
  pool: FramePool,
  address: QueueAddress,
): PathQueue | undefined {
  const { port, queue, path } = address;
  switch (memory.slot(address).driver) {
    case Driver.AF_XDP:
      return new RingQueue(
        ...([memory, pool, port, queue, path] as const),
        {
          ...{ kick: shim.xskKick, wake: shim.xskWake, millis: shim.millis },
          passedOver: kernelIsAtLeast(6, 17) ? undefined : (fd) => passedOver(shim, fd),
        },
        SegmentSender.of(shim, memory, address),
      );
    case Driver.MEMORY:
      return new RingQueue(memory, pool, port, queue, path, { kick: () => 0 });
    case Driver.LOOP:
      return new LoopQueue(memory, pool, address);
    case Driver.HOST:
      return new HostQueue(shim, memory, pool, address);
    case Driver.TAP:
      return openTap(shim, memory, pool, address);
    default:
      return undefined;
  }
}

/** Whether attaching continues rings that outlive a worker, rather than making new ones. */
export function resumes(memory: Memory, address: QueueAddress): boolean {
  const { driver } = memory.slot(address);
  return driver === Driver.AF_XDP || driver === Driver.MEMORY || driver === Driver.LOOP;
}

/** Whether the slot's last worker died and left an io_uring to be read out first. */
export function leftBehind(memory: Memory, address: QueueAddress): boolean {
  const { driver, uringFd } = memory.slot(address);
  return driver === Driver.TAP && uringFd > 0;
}

/** The io_uring a dead worker left, for reading out. Only if {@link leftBehind}. */
export function adopt(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): LeftQueue {
  return new UringRemains(shim, memory, pool, address);
}

function openTap(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): PathQueue {
  const { port, queue, path } = address;
  if (memory.slot(address).useUring === 1) {
    const opened = UringQueue.open(shim, memory, pool, address);
    if (typeof opened !== 'number') return opened;
  }
  return new PlainQueue(shim, memory, pool, port, queue, path);
}
