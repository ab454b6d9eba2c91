/** Where the coordinator's exceptions end: each is reported, and none goes on. */
import { describe, expect, it } from 'vitest';
import { Boundary } from '../../../src/coordinator/boundary.ts';
import type { PlainError } from '../../../src/coordinator/messages.ts';
import { TwinpathError } from '../../../src/errors.ts';

function watched(): { boundary: Boundary; reports: PlainError[] } {
  const reports: PlainError[] = [];
  return { boundary: new Boundary((error) => reports.push(error)), reports };
}

const refused = new TwinpathError('ERR_KERNEL', {
  syscall: 'bpf(LINK_CREATE)',
  errno: 12,
  detail: 'no room',
});

describe('work inside the boundary', () => {
  it('that throws is reported with its name and the unchanged error', () => {
    const { boundary, reports } = watched();
    boundary.guard('opening a path', () => {
      throw refused;
    });
    expect(reports).toEqual([{ ...refused.toJSON(), detail: 'opening a path: no room' }]);
  });

  it('whose promise rejects is reported as well', async () => {
    const { boundary, reports } = watched();
    boundary.guard('closing', async () => {
      await Promise.resolve();
      throw new Error('of ours');
    });
    await new Promise(setImmediate);
    expect(reports).toMatchObject([{ code: 'ERR_WORKER', detail: 'closing: of ours' }]);
  });

  it.each([undefined, null, 'words', 7, { code: 'EPERM' }])('that throws %j is reported', (thrown) => {
    const { boundary, reports } = watched();
    boundary.guard('looking', () => {
      throw thrown;
    });
    expect(reports).toHaveLength(1);
  });

  it('that fails again and again is reported the first time, the second, the fourth, the eighth', () => {
    const { boundary, reports } = watched();
    for (let i = 0; i < 100; i++) boundary.failed('looking', refused);
    expect(reports.map(({ detail }) => detail)).toEqual([
      'looking: no room',
      ...[2, 4, 8, 16, 32, 64].map((times) => `looking: no room: ${times} times so far`),
    ]);
  });

  it('is counted apart from other work and other errors', () => {
    const { boundary, reports } = watched();
    for (let i = 0; i < 3; i++) {
      boundary.failed('looking', refused);
      boundary.failed('closing', refused);
      boundary.failed('looking', new TwinpathError('ERR_KERNEL', { syscall: 'bpf(LINK_CREATE)', errno: 16 }));
    }
    expect(reports).toHaveLength(6);
  });
});
