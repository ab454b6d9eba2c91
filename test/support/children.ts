/** Child processes of a test, which are gone when it is over. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';

/**
 * Has the child killed at the test's end, and its pipes closed here too before the next test begins: that one may compare
 * what this process has open.
 */
export function endWithTest(child: ChildProcess): void {
  const closed = once(child, 'close').catch(() => {}); // it could not be started
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await closed;
  });
}
