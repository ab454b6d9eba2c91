/** A stand-in for a service manager: the socket that `$NOTIFY_SOCKET` names. */
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { until } from './harness.ts';
import { temporary } from './process.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;
const MAX_MESSAGE = 4096;

export class NotifyReceiver {
  readonly name: string;
  /** What has arrived, one assignment each. */
  readonly assignments: string[] = [];
  readonly #fd: number;
  readonly #shim = loadShim();

  /** @param abstract whether it has an abstract name, and not a path */
  constructor(abstract = false) {
    this.name = abstract
      ? `@twinpath-test-${process.pid}-${Math.random()}`
      : join(temporary(), 'notify.sock');
    this.#fd = check(this.#shim.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket');
    onTestFinished(() => void this.#shim.close(this.#fd));
    const address = Buffer.from(`\x01\0${abstract ? `\0${this.name.slice(1)}` : `${this.name}\0`}`);
    check(this.#shim.bind(this.#fd, address, address.length), 'bind');
  }

  /** Reads what has arrived. Returns all of it, and what arrived before. */
  read(): readonly string[] {
    const buffer = Buffer.alloc(MAX_MESSAGE);
    for (;;) {
      const bytes = this.#shim.recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT);
      if (bytes < 0) return this.assignments;
      this.assignments.push(...buffer.toString('utf8', 0, bytes).split('\n'));
    }
  }

  /** Waits until that assignment has come `times` times. */
  got(assignment: string, times = 1): Promise<void> {
    return until(`${assignment}, ${times} times`, () => this.count(assignment) >= times);
  }

  count(assignment: string): number {
    return this.read().filter((one) => one.startsWith(assignment)).length;
  }
}
