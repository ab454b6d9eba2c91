/** What keeps Node from loading the package or starting its threads, in a sentence for people. */
import { describe, expect, it } from 'vitest';
import { startFailure } from '../../src/start-failure.ts';

const failure = (code: string, message: string, more: object = {}): string | undefined =>
  startFailure(Object.assign(new Error(message), { code, ...more }))?.message;

describe('what kept Twinpath from starting', () => {
  it.each([
    ['EMFILE', 'EMFILE: too many open files'],
    ['ENFILE', 'ENFILE: file table overflow'],
    ['ERR_WORKER_INIT_FAILED', 'Worker initialization failure: EMFILE'],
    ['ERR_WORKER_INIT_FAILED', 'Worker initialization failure: ENFILE'],
  ])('is the limit of open files: %s, %s', (code, message) => {
    expect(failure(code, message)).toMatch(/^Twinpath could not be started.*\(E[MN]FILE\).*ulimit -n/);
  });

  it('is the limit of threads', () => {
    const told = failure('ERR_WORKER_INIT_FAILED', 'Worker initialization failure: EAGAIN');
    expect(told).toMatch(/no thread.*EAGAIN.*ulimit -u/);
  });

  it('names the file that may not be read', () => {
    expect(failure('EACCES', 'EACCES: permission denied', { path: '/srv/a.js', syscall: 'open' })).toMatch(
      /: \/srv\/a\.js: this user may not read it \(open: EACCES\)/,
    );
  });

  it('is not told of what is a mistake in a program', () => {
    expect(failure('ERR_INVALID_ARG_TYPE', 'an argument')).toBeUndefined();
    expect(startFailure(new TypeError('no function'))).toBeUndefined();
  });
});
