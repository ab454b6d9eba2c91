import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const labs = {
  ...{ testTimeout: 60_000, hookTimeout: 30_000 },
  globalSetup: 'test/support/global-setup.ts',
  setupFiles: 'test/support/requirements.ts',
};

// `isolate: false`: a process for each file takes a quarter of the time.
export default defineConfig({
  test: {
    pool: 'forks',
    tags: [{ name: 'unprivileged', description: 'needs neither root nor iproute2' }],
    projects: [
      {
        extends: true,
        // Unit tests are bounded in work and none of them looks at the clock: the limit only ends one that hangs.
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          maxWorkers: availableParallelism(),
          isolate: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        // What a port does, by the kernel's own devices and in memory.
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts', 'test/conformance/**/*.test.ts'],
          ...labs,
          // Two labs at a time, of two processes: a test mostly waits. Each counts only its own packets.
          maxWorkers: 2,
          isolate: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        // What it does when something breaks, is refused, or is changed behind its back: many whole lives of ports.
        test: {
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          ...labs,
          fileParallelism: false, // faults are found by deaths and time limits, which a second lab would disturb
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        // Large configurations of the models: minutes, and gigabytes of memory.
        test: {
          name: 'models',
          include: ['test/models/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 3_600_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
