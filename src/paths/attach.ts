/** Makes the path queue of an open path slot. Worker only. */
import { callSupervisor } from '../kernel/doorbell.ts';
import { kernelIsAtLeast } from '../kernel/machine.ts';
import type { Shim } from '../kernel/shim.ts';
import { passedOver } from '../kernel/xdp-statistics.ts';
import { hasChains } from '../memory/chains.ts';
import type { FramePool } from '../memory/frames.ts';
import { Driver, type QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { ChainQueue } from './af-xdp/chain-queue.ts';
import { XskQueue } from './af-xdp/queue.ts';
import type { AttachedPath, OrphanedRing } from './attached-path.ts';
import { HostQueue } from './host/queue.ts';
import { LoopQueue } from './memory/loop.ts';
import { type HandoffRings, ProxyQueue } from './proxy-queue.ts';
import { RingQueue, RingTransmitter } from './ring-queue.ts';
import { SegmentSender } from './segments.ts';
import { OrphanedUring } from './tap/orphaned-uring.ts';
import { PlainQueue } from './tap/plain-queue.ts';
import { UringQueue } from './tap/uring-queue.ts';

/** What a path queue is made of. */
export interface Surroundings {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly pool: FramePool;
}

/**
 * Attaches to an open slot, and continues where its last worker stopped.
 *
 * @param handoff rings to the workers that may send for this one
 * @returns undefined if the slot is closed
 */
export function attach(
  { shim, memory, pool }: Surroundings,
  address: QueueAddress,
  handoffs?: HandoffRings,
): AttachedPath | undefined {
  const { driver, fd, useUring } = memory.slot(address);
  switch (driver) {
    case Driver.AF_XDP: {
      const end = {
        kick: shim.xskKick,
        wake: shim.xskWake,
        millis: shim.millis,
        passedOver: kernelIsAtLeast(6, 17) ? undefined : (fd: number) => passedOver(shim, fd),
        doubted: () => callSupervisor(shim, memory),
      };
      const segments = SegmentSender.of(shim, memory, address);
      return hasChains(pool.frameSize)
        ? new ChainQueue(memory, pool, address, end, segments)
        : new XskQueue(memory, pool, address, end, segments);
    }
    case Driver.MEMORY:
      return new RingQueue(memory, pool, address, new RingTransmitter(memory, pool, address));
    case Driver.LOOP:
      return new LoopQueue(memory, pool, address);
    case Driver.HOST:
      return new HostQueue(shim, memory, pool, address);
    case Driver.TAP: {
      const opened = useUring === 1 ? UringQueue.open(shim, memory, pool, address) : undefined;
      return typeof opened === 'object' ? opened : new PlainQueue(shim, memory, pool, address);
    }
    case Driver.PROXY:
      return new ProxyQueue(memory, address, handoffs!, fd);
    default:
      return undefined;
  }
}

/** Whether attaching continues rings that outlive a worker, and does not make new ones. */
export function resumes(memory: Memory, address: QueueAddress): boolean {
  const { driver } = memory.slot(address);
  return driver === Driver.AF_XDP || driver === Driver.MEMORY || driver === Driver.LOOP;
}

/** Whether the slot's last worker died and left an io_uring, which must be read out first. */
export function isOrphaned(memory: Memory, address: QueueAddress): boolean {
  const { driver, uringFd } = memory.slot(address);
  return driver === Driver.TAP && uringFd > 0;
}

/** The io_uring of a dead worker, for reading out. Only if {@link isOrphaned}. */
export function adopt({ shim, memory, pool }: Surroundings, address: QueueAddress): OrphanedRing {
  return new OrphanedUring(shim, memory, pool, address);
}
