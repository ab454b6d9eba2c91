/** A capture of a port of this process, as an operator makes one: `twinpath capture` in a process of its own. */
import { join } from 'node:path';
import { until } from '../../src/lab/wait.ts';
import { packageRoot } from '../../src/package-root.ts';
import type { Port } from '../../src/port.ts';
import { Peer } from '../peers/program.ts';

const START_MILLIS = 10_000;

/** Captures into nothing while `work` runs. */
export async function captured<T>(port: Port, filter: string, work: () => Promise<T>): Promise<T> {
  await until('control socket', START_MILLIS, () => port.controlSocket !== undefined);
  const command = join(packageRoot, 'dist/src/cli/main.js');
  const words = [command, 'capture', String(process.pid), '-w', '/dev/null', ...filter.split(' ')];
  const peer = Peer.inNamespace(undefined, process.execPath, ...words.filter(Boolean));
  try {
    await until('capture', START_MILLIS, () => peer.words.includes('Capturing on'));
    return await work();
  } finally {
    await peer.kill();
  }
}
