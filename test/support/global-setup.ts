/**
 * Runs once before the system tests, and once before the fault tests. It finds out whether this machine has what they
 * need (requirements.ts skips them otherwise), and makes the folder for the copy of the package that every user may
 * read (nobody.ts fills it). The folder is removed after the run.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The first requirement that this machine lacks, or ''. */
    missing: string;
    everybody: string;
  }
}

function firstMissing(): string {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  if (spawnSync('ip', ['-V']).status !== 0) return 'needs iproute2: there is no command "ip"';
  return '';
}

export default function setup(project: TestProject): () => void {
  const missing = firstMissing();
  if (missing !== '')
    console.warn(`\n${project.name}: tests without the tag "unprivileged" are skipped: ${missing}\n`);
  project.provide('missing', missing);
  const folder = mkdtempSync(join(tmpdir(), `tp-${process.pid}-package-`));
  chmodSync(folder, 0o755);
  project.provide('everybody', folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
