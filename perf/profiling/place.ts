/** Where the profiling programs find things, and where they leave them. */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../src/kernel/shim.ts';

export const workloadProgram = fileURLToPath(new URL('workload.js', import.meta.url));

/** perf/: clinic is installed there, and git ignores what is in results/ below it. */
export const perfFolder = join(packageRoot, 'perf');

/** The folder for profiles, made if it is not there. */
export function profilesFolder(out: string | undefined): string {
  const folder = out === undefined ? join(perfFolder, 'results', 'profiles') : resolve(out);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** `2026-01-31T12-00-00`: what sorts by time, and may be in a file's name. */
export const stamp = (now: Date): string => now.toISOString().slice(0, 19).replaceAll(':', '-');
