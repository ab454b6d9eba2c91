/** The folder of a run's copy of the package that every user may read: see nobody.ts. It goes with the run. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    everybody: string;
  }
}

export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(tmpdir(), `tp-${process.pid}-package-`));
  chmodSync(folder, 0o755);
  project.provide('everybody', folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
