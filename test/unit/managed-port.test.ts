import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ManagedPort } from '../../src/coordinator/managed-port.ts';
import type { PortNetwork } from '../../src/coordinator/network.ts';
import type { Ownership } from '../../src/coordinator/ownership.ts';
import { TwinpathError } from '../../src/errors.ts';
import { Path, type PathId } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import type { PathDevice } from '../../src/paths/path.ts';

// The pauses between two tries pass as the test says, and not by the machine's clock.
beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

test('a path that cannot be opened is tried again although the other one asks for a try of its own', async () => {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const tries: Record<PathId, number> = { 0: 0, 1: 0, 2: 0, 3: 0 };
  const device = (path: PathId): PathDevice => ({
    description: { driver: 'memory', device: `path${path}`, mode: '', tie: '' },
    holdings: {},
    changed() {},
    open() {
      tries[path]++;
      throw new TwinpathError('ERR_DEVICE_BUSY', { device: `path${path}` });
    },
    arm() {},
    disarm() {},
    close() {},
    dropped: () => ({ rxDropped: 0, rxRingFull: 0, rxFillEmpty: 0, rxUnclaimed: 0, txInvalid: 0 }),
  });
  const network: PortNetwork = {
    device: 'eth0',
    observe: () => [],
    mac: '',
    endpoint: (path) => ({ key: path, name: `path${path}`, up: true, carrier: true }),
    holdings: {},
    make: (path) => device(path),
    adopt: (path) => device(path),
  };
  const ownership = {
    owner: Path.NONE,
    isAttached: () => false,
    reclaim: async () => {},
    settled: async () => {},
    check() {},
  } as unknown as Ownership;
  const port = new ManagedPort(memory, 0, network, ownership, {
    ...{ link() {}, error() {}, changed() {} },
    guard: (_, work) => void work(),
  });
  await expect(port.start()).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
  expect(tries).toMatchObject({ [Path.SYNTHETIC]: 1, [Path.VF]: 1 });
  for (let wanted = 2; wanted <= 10; wanted++) {
    for (let step = 0; step < 100 && Math.min(tries[Path.SYNTHETIC], tries[Path.VF]) < wanted; step++) {
      await vi.advanceTimersByTimeAsync(50);
    }
    expect(tries[Path.SYNTHETIC]).toBeGreaterThanOrEqual(wanted);
    expect(tries[Path.VF]).toBeGreaterThanOrEqual(wanted);
  }
  await port.close();
});
