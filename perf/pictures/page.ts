/**
 * Draws docs/pictures/page.png: the live page of a port in a lab, under traffic, whose VF has come and gone. As root, with
 * Chromium (test/peers.sh): `node dist/perf/pictures/page.js`.
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab, Traffic } from '../../src/lab/index.ts';
import { packageRoot } from '../../src/package-root.ts';
import { servePage } from '../../src/page/live-page.ts';
import { openPort } from '../../src/port.ts';
import { openBrowser } from './browser.ts';

const FILE = join(packageRoot, 'docs/pictures/page.png');
const SIZE = { width: 1120, height: 650 };
/** How long the port has its VF, and how long it has not, in seconds. */
const TIMES = [6, 4, 5, 3, 6];

const lab = await Lab.create({ queues: 2 });
try {
  const port = await openPort({
    ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, queues: 2 },
    handler: new URL('../../src/handlers/echo.js', import.meta.url),
    handlerOptions: { address: lab.nic.guestAddress },
  });
  const page = await servePage([port]);
  const browser = await openBrowser();
  try {
    await using _traffic = await Traffic.start(lab, lab.nic, { rate: 20_000 });
    const view = await browser.newPage({ viewport: SIZE, colorScheme: 'dark' });
    await view.goto(page.url);
    await view.getByLabel('30 s').check();
    for (const [i, seconds] of TIMES.entries()) {
      const path = i % 2 === 0 ? 'vf' : 'synthetic';
      if (path === 'vf') await lab.nic.plug();
      else await lab.nic.unplug();
      while (port.stats().queues.some(({ owner }) => owner !== path)) await sleep(20);
      if (path === 'vf') await lab.nic.moveDataPath('vf');
      await sleep(1000 * seconds);
    }
    mkdirSync(dirname(FILE), { recursive: true });
    await view.screenshot({ path: FILE });
  } finally {
    await browser.close();
    page.close();
    await port.close();
  }
} finally {
  await lab.close();
}
