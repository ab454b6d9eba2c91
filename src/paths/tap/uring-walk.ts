/**
 * The frames in the rings of a tap queue, of a living worker or a dead one: for the ledger, and for taking packets back.
 * Worker only.
 *
 * An entry may name a frame that has left the queue: a worker passed the frame on and died before it released the entry.
 * The frame's owner shows that, and the entry is skipped.
 */
import type { TapFrames } from './tap-frames.ts';
import { Kind, type UringRing } from './uring.ts';

/** Visits completions from the `from`-th on: reads, filled or failed (`rx`), and writes. */
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

/** Visits published writes that the kernel has not read, oldest first: word index, and address. */
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
 * Visits these writes and cancels them. The entries stay, since reads after them are still to be submitted.
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
