/** The coordinator's tasks: the exception of each is reported and ends there. */
import { describe, expect, it } from 'vitest';
import { TaskRunner } from '../../../src/coordinator/task-runner.ts';
import { type PlainError, TwinpathError } from '../../../src/errors.ts';

function watched(): { tasks: TaskRunner; reports: PlainError[] } {
  const reports: PlainError[] = [];
  const tasks = new TaskRunner(({ kind, event }) => {
    if (kind === 'error') reports.push(event);
  });
  return { tasks, reports };
}

const refused = new TwinpathError('ERR_KERNEL', {
  syscall: 'bpf(LINK_CREATE)',
  errno: 12,
  detail: 'no room',
});

describe('a task of the coordinator', () => {
  it('that throws is reported with what it was, and its error as it is', () => {
    const { tasks, reports } = watched();
    tasks.run('opening a path', () => {
      throw refused;
    });
    expect(reports).toEqual([{ ...refused.toJSON(), detail: 'opening a path: no room' }]);
  });

  it('whose promise rejects is reported as well', async () => {
    const { tasks, reports } = watched();
    tasks.run('closing', async () => {
      await Promise.resolve();
      throw new Error('of ours');
    });
    await new Promise(setImmediate);
    expect(reports).toMatchObject([{ code: 'ERR_WORKER', detail: 'closing: of ours' }]);
  });

  it.each([undefined, null, 'words', 7, { code: 'EPERM' }])('that throws %j is reported', (thrown) => {
    const { tasks, reports } = watched();
    tasks.run('looking', () => {
      throw thrown;
    });
    expect(reports).toHaveLength(1);
  });

  it('that fails again and again is reported the first time, the second, the fourth, the eighth', () => {
    const { tasks, reports } = watched();
    for (let i = 0; i < 100; i++) tasks.failed('looking', refused);
    expect(reports.map(({ detail }) => detail)).toEqual([
      'looking: no room',
      ...[2, 4, 8, 16, 32, 64].map((times) => `looking: no room: ${times} times so far`),
    ]);
  });

  it('is counted apart from other work and other errors', () => {
    const { tasks, reports } = watched();
    for (let i = 0; i < 3; i++) {
      tasks.failed('looking', refused);
      tasks.failed('closing', refused);
      tasks.failed('looking', new TwinpathError('ERR_KERNEL', { syscall: 'bpf(LINK_CREATE)', errno: 16 }));
    }
    expect(reports).toHaveLength(6);
  });
});
