/** Whether a device runs is told at once, whoever has RTNL: what a port asks when a driver says that it is down. */
import { execFileSync } from 'node:child_process';
import { expect, it, onTestFinished } from 'vitest';
import { isRunning, openIoctlSocket } from '../../dist/src/kernel/device-ioctl.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { buildLab } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

it('a device runs while it is up, does not once it is down, and of one that is gone the kernel says nothing', async () => {
  const lab = await buildLab();
  const shim = loadShim();
  const { ifindex } = linkIn(lab.guest, lab.nic.netvsc)!;
  const fd = inNamespace(shim, lab.guest, () => openIoctlSocket(shim));
  onTestFinished(() => void shim.close(fd));
  const runs = () => isRunning(shim, fd, ifindex);
  const ip = (...words: string[]) => void execFileSync('ip', ['-n', lab.guest, 'link', ...words]);
  expect(runs()).toBe(true);
  ip('set', lab.nic.netvsc, 'down');
  expect(runs()).toBe(false);
  ip('del', lab.nic.netvsc);
  expect(runs()).toBeUndefined();
});
