/** Receive rings after a worker's death. */
import type { FramePool } from './frames.ts';
import type { Consumer } from './ring.ts';

/**
 * Of the packets that a dead worker had in hand: keeps those that it had not handled, and releases the others.
 *
 * Unhandled packets may be between handled ones, since packets for other queues are handed over before those of this one
 * are handled. So they are moved to the end. A worker that dies here leaves entries doubled, of which the last counts.
 *
 * @param slotWords words of a slot, of which the first is the frame's address
 * @param owner of the frames in the ring
 * @param taken how many packets the worker may have had in hand
 * @param again how many entries are searched for later ones of the same frame
 */
export function keepUnhandled(
  words: Int32Array,
  ring: Consumer,
  slotWords: number,
  pool: FramePool,
  owner: number,
  taken: number,
  again = taken,
): void {
  const mask = -pool.frameSize;
  const seen = new Set<number>();
  for (let i = taken; i < again; i++) seen.add(words[ring.slot(i)]! & mask);
  let kept = taken;
  for (let i = taken - 1; i >= 0; i--) {
    const slot = ring.slot(i);
    const frame = words[slot]! & mask;
    if (pool.ownerOf(frame) !== owner || seen.has(frame)) continue;
    seen.add(frame);
    words.copyWithin(ring.slot(--kept), slot, slot + slotWords);
  }
  if (kept > 0) ring.release(kept);
}
