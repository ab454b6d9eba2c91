/**
 * Skips what this machine cannot run. System and fault tests need root and iproute2 (global-setup.ts checks both),
 * except those with the tag `unprivileged`. Vitest runs this file before each file of such tests.
 */
import { aroundEach, inject } from 'vitest';

const missing = inject('missing');

/** For `beforeAll` and `afterAll`: Vitest calls these hooks even if every test of the suite is skipped. */
export const privileged = <T>(hook: () => T) => (missing === '' ? hook : () => {});

aroundEach(async (runTest, { task, skip }) => {
  if (missing !== '' && !task.tags?.includes('unprivileged')) skip(missing);
  await runTest();
});
