/** Closing what consists of parts: one that cannot be closed must not keep the others open. */

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

/** After `error` has stopped the opening of something: closes what it has, and throws that error. */
export function closeAfter(opened: { close(): void }, error: unknown): never {
  try {
    opened.close();
  } catch {
    // What stopped the opening is the cause, and the one to tell.
  }
  throw error;
}
