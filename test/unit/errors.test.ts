import { describe, expect, test } from 'vitest';
import { check, Errno, errnoName, TwinpathError } from '../../src/errors.ts';

describe('errors', () => {
  test('name the device, the system call, its errno and the way out, in one sentence and a hint', () => {
    const error = new TwinpathError('ERR_DEVICE_BUSY', {
      device: 'vf0',
      syscall: 'bind(AF_XDP)',
      errno: 16,
      detail: 'its queue 1 is taken',
      hint: 'Stop the other program.',
    });
    expect(error.message).toBe(
      'Another program already holds that device: vf0 (bind(AF_XDP): EBUSY, device or resource busy): its queue 1 is taken. Stop the other program.',
    );
  });

  test('keep all they know when they cross a thread', () => {
    const error = new TwinpathError('ERR_NO_TUN', {
      device: '/dev/net/tun',
      syscall: 'open',
      errno: 2,
      hint: 'Load it.',
    });
    const again = TwinpathError.from(structuredClone(error.toJSON()));
    expect(again.message).toBe(error.message);
    expect(again.code).toBe('ERR_NO_TUN');
    expect(again).toBeInstanceOf(TwinpathError);
  });
});

describe('check', () => {
  test('passes counts on', () => {
    expect(check(0, 'read')).toBe(0);
    expect(check(7, 'read')).toBe(7);
  });

  test('throws the failed call under the given code', () => {
    expect(() => check(Errno.ENODEV, 'bind', { code: 'ERR_DEVICE_NOT_FOUND', device: 'vf0' })).toThrow(
      expect.objectContaining({ code: 'ERR_DEVICE_NOT_FOUND', errno: 19, syscall: 'bind', device: 'vf0' }),
    );
  });

  test.each([Errno.EPERM, Errno.EACCES])(
    'says how to get the permission that %i means is missing',
    (errno) => {
      expect(() => check(errno, 'bpf')).toThrow(
        expect.objectContaining({ code: 'ERR_PERMISSION', hint: expect.stringContaining('root') }),
      );
    },
  );

  test('says which limit to raise when too few files may be open', () => {
    expect(() => check(Errno.EMFILE, 'eventfd2')).toThrow(/EMFILE.*ulimit -n/);
  });

  test('names unlisted errno values by their number', () => {
    expect(errnoName(-4095)).toBe('errno 4095');
  });
});

test('an errno that is misspelt does not compile', () => {
  // @ts-expect-error: `tsc -p test` fails if this line has no error
  expect(Errno.EBUZY).toBe(undefined);
  expect(Errno.EBUSY).toBe(-16);
});
