/**
 * What garbage.test.ts shows of rings in memory, for the kernel's: neither packets nor sleeps nor system calls
 * leave garbage behind. The kernel sets the pace, so these are fewer packets: enough for a collection if
 * each burst of some ten left a hundred bytes.
 */
import { expect, it } from 'vitest';
import { buildLab, Scene, until } from '../support/harness.ts';

const WARM = 60_000;
const WEIGHED = 100_000;

it.each([
  { path: 'synthetic', tap: 'io_uring' },
  { path: 'synthetic', tap: 'read/write' },
  { path: 'vf', tap: 'io_uring' },
] as const)('packets by the $path path leave no garbage, the tap driven by $tap', async ({ path, tap }) => {
  const lab = await buildLab({ queues: 1 });
  const counts = new Int32Array(new SharedArrayBuffer(12));
  const scene = await Scene.openIn(lab, {
    tap,
    handler: new URL('../fixtures/handlers/weighed-echo.mjs', import.meta.url),
    handlerOptions: { counts, from: WARM, to: WARM + WEIGHED + 64, address: lab.nic.guestAddress },
  });
  if (path === 'vf') await scene.plug();
  await scene.drive({ rate: 200_000 });
  await until('weighed', () => Atomics.load(counts, 0) === 1, 30_000);
  expect(counts[2]).toBeGreaterThanOrEqual(WEIGHED);
  expect(counts[1], 'collections').toBe(0);
  await scene.finish();
});
