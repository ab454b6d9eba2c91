/** What the messages about links say to the thread that orders failovers, which never asks for all links. */
import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { closeLinkWatch, LinkWatch } from '../../dist/src/kernel/link-watch.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { Memory } from '../../dist/src/memory/shared.js';
import { buildLab, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

it('the watch tells how a link is, whether it was down since the last reading, and that it is gone', async () => {
  const lab = await buildLab();
  const shim = loadShim();
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const own = (): string => readlinkSync('/proc/thread-self/ns/net');
  const before = own();
  onTestFinished(() => closeLinkWatch(shim, memory));
  const watch = LinkWatch.open(shim, memory, lab.guest);
  expect(own()).toBe(before);
  const { netvsc } = lab.nic;
  const { ifindex } = linkIn(lab.guest, netvsc)!;
  const ip = (...words: string[]) => void execFileSync('ip', ['-n', lab.guest, 'link', ...words]);
  const read = () => watch.read().links.get(ifindex);

  ip('set', netvsc, 'down');
  ip('set', netvsc, 'up');
  expect(read()).toMatchObject({ gone: false, wentDown: true, up: true });
  expect(watch.isRunning(ifindex)).toBe(true);
  ip('set', netvsc, 'mtu', '1400');
  expect(read()).toMatchObject({ gone: false, wentDown: false, up: true });
  ip('set', netvsc, 'down');
  expect(read()).toMatchObject({ gone: false, wentDown: true, up: false });
  expect(watch.isRunning(ifindex)).toBe(false);
  ip('set', netvsc, 'up');
  await lab.nic.setCarrier('synthetic', false);
  await until('the message about the carrier', () => read()?.carrier === false);
  ip('del', netvsc);
  expect(read()).toMatchObject({ gone: true, up: false });
  expect(watch.isRunning(ifindex)).toBeUndefined();
  ip('set', 'lo', 'mtu', '60000');
  expect(read()).toBeUndefined();
});
