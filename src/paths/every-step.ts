/** Closing an object of several parts: a part that fails to close must not keep the others open. */

/** Runs every step, in order. @throws the first error, once all have run */
export function everyStep(steps: readonly (() => unknown)[]): void {
  let first: unknown;
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
}

/** After `error` has stopped something half-way: undoes what was done, every step of it, and throws that error. */
export function undoAfter(error: unknown, steps: readonly (() => unknown)[]): never {
  try {
    everyStep(steps);
  } catch {
    // The first error is the cause, and the one to report.
  }
  throw error;
}

/** The same for an opening: closes what was opened. */
export function closeAfter(opened: { close(): void }, error: unknown): never {
  return undoAfter(error, [() => opened.close()]);
}
