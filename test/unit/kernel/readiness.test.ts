import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { onReadable, type Readiness } from '../../../src/kernel/readiness.ts';
import { loadShim } from '../../../src/kernel/shim.ts';

const shim = loadShim();
const FIXTURE = fileURLToPath(new URL('../../fixtures/readiness.mjs', import.meta.url));

/** Long enough for a loaded machine; nothing is measured by it. */
const PATIENCE = { timeout: 60_000 };

async function run(action: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [FIXTURE, action]);
  return stdout.trim();
}

/** An eventfd, and how its readiness was told. */
class Watched {
  readonly fd = shim.eventfd();
  readonly errors: unknown[] = [];
  calls = 0;
  #changed = (): void => {};
  readonly #readiness: Readiness;
  readonly #word = new Uint8Array(8);

  constructor(callback: (watched: Watched) => void) {
    this.#readiness = onReadable(
      this.fd,
      () => {
        this.calls++;
        this.#changed();
        callback(this);
      },
      (error) => this.errors.push(error),
    );
    onTestFinished(() => {
      this.close();
      shim.close(this.fd);
    });
  }

  ring(): void {
    shim.write(this.fd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 8);
  }

  read(): number {
    return shim.read(this.fd, this.#word, 8);
  }

  close(): void {
    this.#readiness.close();
  }

  async until(calls: number): Promise<void> {
    while (this.calls < calls) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

/** So many turns of the event loop, each of which looks at the descriptors. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('a readable descriptor', () => {
  it('has promises that its callback resolves go on although nothing else happens', PATIENCE, async () => {
    expect(await run('promise')).toBe('callback promise');
  });

  it('is reported once each time that it has been read to its end', async () => {
    const watched = new Watched((it) => it.read());
    for (let round = 1; round <= 20; round++) {
      watched.ring();
      await watched.until(round);
      await turns(5);
      expect(watched.calls).toBe(round);
    }
    expect(watched.errors).toEqual([]);
  });

  it('comes again for as long as it is not read', async () => {
    const watched = new Watched((it) => {
      if (it.calls === 10) it.read();
    });
    watched.ring();
    await watched.until(10);
    await turns(5);
    expect(watched.calls).toBe(10);
  });

  it.each([
    ['before it has read', (it: Watched) => it.calls > 3 && it.read()],
    ['after it has read', (it: Watched) => it.read()],
  ])('has an error of its callback told, and the callback called again, if it throws %s', async (_, read) => {
    const watched = new Watched((it) => {
      read(it);
      if (it.calls <= 3) throw new Error(`number ${it.calls}`);
    });
    watched.ring();
    await watched.until(4);
    expect(watched.errors.map((error) => (error as Error).message)).toEqual([
      'number 1',
      'number 2',
      'number 3',
    ]);
    await turns(20);
    expect(watched.calls).toBe(4);
    watched.ring();
    await watched.until(5);
    expect(watched.errors).toHaveLength(3);
  });

  it('leaves the loop to others while its callback fails', async () => {
    const failing = new Watched(() => {
      throw new Error('again');
    });
    const other = new Watched((it) => it.read());
    failing.ring();
    await failing.until(1);
    await turns(1_000);
    // Without a pause it would have failed once a turn.
    expect(failing.calls).toBeLessThan(500);
    other.ring();
    await other.until(1);
    expect(failing.errors).toHaveLength(failing.calls);
  });

  it('is not reported after it is closed', async () => {
    const closed: Watched[] = [];
    const watched = Array.from({ length: 5 }, () => {
      return new Watched((it) => {
        closed.push(it);
        for (const other of watched) other.close();
      });
    });
    const failing = new Watched((it) => {
      it.close();
      throw new Error('closed meanwhile');
    });
    for (const each of [...watched, failing]) each.ring();
    await failing.until(1);
    await turns(50);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(closed).toHaveLength(1);
    expect(failing).toMatchObject({ calls: 1, errors: [new Error('closed meanwhile')] });
  });

  it('does not end the process when its thread ends', PATIENCE, async () => {
    expect(await run('threads')).toBe('a thread, throws, exits, a reporter, reporter throws');
  });
});
