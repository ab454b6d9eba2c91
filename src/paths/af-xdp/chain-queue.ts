/** A path queue over an AF_XDP socket of a port with jumbo frames: see memory/chains.ts. Worker only. */
import type { FramePool } from '../../memory/frames.ts';
import type { QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { SegmentSender } from '../segments.ts';
import { ChainReceiveRing } from './chain-receive.ts';
import { ChainTransmitter } from './chain-transmit.ts';
import { XskQueue } from './queue.ts';
import type { XskKernel } from './transmit.ts';

export class ChainQueue extends XskQueue {
  /** A handler's own loop over the descriptors knows packets of one only. */
  override readonly inPlace = undefined;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    kernel: XskKernel,
    segments?: Pick<SegmentSender, 'send'>,
  ) {
    const tx = new ChainTransmitter(memory, pool, address, kernel, segments);
    super(memory, pool, address, kernel, segments, tx, new ChainReceiveRing(memory, pool, address));
  }
}
