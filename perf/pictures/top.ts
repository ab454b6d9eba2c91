/**
 * Draws docs/pictures/top.svg: what `twinpath top` prints of a port in a lab, under traffic, whose VF has come and gone. As
 * root: `node dist/perf/pictures/top.js`.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Lab, Traffic } from '../../src/lab/index.ts';
import { packageRoot } from '../../src/package-root.ts';
import { openPort, type Port } from '../../src/port.ts';
import { terminalSvg } from './terminal-svg.ts';

const run = promisify(execFile);
const FILE = join(packageRoot, 'docs/pictures/top.svg');
const MAIN = join(packageRoot, 'dist/src/cli/main.js');
const COLUMNS = 80;
const PICTURES = 3;

/** The last picture that `top` prints. */
async function topOf(port: Port): Promise<string[]> {
  const { stdout } = await run(process.execPath, [
    MAIN,
    'top',
    String(process.pid),
    '--count',
    String(PICTURES),
  ]);
  const heading = `${port.device}  process ${process.pid}`;
  const last = stdout.slice(stdout.lastIndexOf(heading));
  return last.trimEnd().split('\n');
}

const lab = await Lab.create({ queues: 2 });
try {
  const port = await openPort({
    ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, queues: 2 },
    handler: new URL('../../src/handlers/echo.js', import.meta.url),
    handlerOptions: { address: lab.nic.guestAddress },
  });
  try {
    await using _traffic = await Traffic.start(lab, lab.nic, { rate: 20_000 });
    const plug = async (): Promise<void> => {
      await lab.nic.plug();
      while (port.stats().queues.some(({ owner }) => owner !== 'vf')) await sleep(20);
      await lab.nic.moveDataPath('vf');
    };
    await plug();
    await sleep(3000);
    await lab.nic.unplug();
    await sleep(2000);
    await plug();
    const lines = await topOf(port);
    mkdirSync(dirname(FILE), { recursive: true });
    writeFileSync(FILE, terminalSvg(lines, COLUMNS, 'twinpath top'));
  } finally {
    await port.close();
  }
} finally {
  await lab.close();
}
