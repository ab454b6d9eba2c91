/**
 * What lies in the rings of a tap queue, a living worker's or a dead one's: looked at by whoever has to know where
 * every frame is. Worker only.
 *
 * An entry may outlive its frame's stay: a worker that died had passed the frame on and not released the entry. Its
 * owner tells, and such an entry is passed over.
 */
import type { TapFrames } from './tap-frames.ts';
import { Kind, type UringRing } from './uring.ts';

/** Completions from the `from`-th on: reads, filled or failed (`rx`), and writes. */
export function eachCompletion(
  ring: UringRing,
  frames: TapFrames,
  from: number,
  visit: (kind: 'rx' | 'completing', address: number) => void,
): void {
  const count = ring.cq.pending();
  for (let i = from; i < count; i++) {
    const slot = ring.cq.slot(i);
    const kind = ring.doneKind(slot);
    const address = ring.doneAddress(slot);
    if (kind === Kind.READ && frames.isFilling(address)) visit('rx', address);
    else if (kind === Kind.WRITE && frames.isSending(address)) visit('completing', address);
  }
}

/** Writes that were published and that the kernel has not taken, oldest first: word index, and address. */
export function eachUnsent(
  ring: UringRing,
  frames: TapFrames,
  visit: (slot: number, address: number) => void,
): void {
  const count = ring.sq.pending();
  for (let i = 0; i < count; i++) {
    const slot = ring.sq.pendingSlot(i);
    const address = ring.addressAt(slot);
    if (ring.kindAt(slot) === Kind.WRITE && frames.isSending(address)) visit(slot, address);
  }
}

/**
 * Names these writes and makes nothing of them: what has arrived is still to be read, by entries behind them.
 *
 * @returns how many
 */
export function reclaimUnsent(
  ring: UringRing,
  frames: TapFrames,
  visit: (offset: number, bytes: number) => void,
): number {
  let packets = 0;
  eachUnsent(ring, frames, (slot, address) => {
    visit(frames.at + address, ring.bytesAt(slot));
    ring.cancel(slot);
    packets++;
  });
  frames.rescued(packets);
  return packets;
}
