/** Child processes that end with their test. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';

/**
 * Ends the child at the test's end, and waits until its pipes are closed here too: the next test may compare the open
 * descriptors of this process.
 */
export function endWithTest(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
  const closed = once(child, 'close').catch(() => {}); // it could not be started
  onTestFinished(async () => {
    child.kill(signal);
    await closed;
  });
}
