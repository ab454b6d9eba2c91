/**
 * The lookup table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): maps a hash to a backend.
 *
 * A backend's name determines its order of preference for the slots. The backends take turns, and each takes its next free
 * slot. So shares differ by at most one slot, and if the set of backends changes, the others keep most of their slots. Any
 * thread; allocates.
 */
import { finishHash, mixHash } from '../net/flow.ts';

/** A prime, so that any step visits all slots. Each backend has at least a hundred slots, as the paper recommends. */
export const SLOTS = 65_537;
export const MAX_BACKENDS = 512;

/**
 * @param names of the backends, all different
 * @returns for each slot the index of its backend in `names`; the order of names does not matter otherwise
 */
export function maglevTable(names: readonly string[]): Uint16Array {
  const table = new Uint16Array(SLOTS);
  const isTaken = new Uint8Array(SLOTS);
  const turns = names.map((_, i) => i).sort((a, b) => (names[a]! < names[b]! ? -1 : 1));
  const next = Uint32Array.from(names, (name) => hashOfText(name, 1) % SLOTS);
  const step = Uint32Array.from(names, (name) => (hashOfText(name, 2) % (SLOTS - 1)) + 1);
  let taken = 0;
  for (;;) {
    for (const backend of turns) {
      let slot = next[backend]!;
      while (isTaken[slot] === 1) slot = (slot + step[backend]!) % SLOTS;
      isTaken[slot] = 1;
      table[slot] = backend;
      next[backend] = (slot + step[backend]!) % SLOTS;
      if (++taken === SLOTS) return table;
    }
  }
}

function hashOfText(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = mixHash(hash, text.charCodeAt(i));
  return finishHash(hash) >>> 0;
}
