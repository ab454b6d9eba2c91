/** A packet that does not fit a frame is never handed on cut off. */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { openPort } from '../../dist/src/index.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { Lab } from '../../dist/src/lab/host.js';
import { until } from './harness.ts';

const LONG = 2500;

/** One UDP datagram from the outside host's kernel. */
function send(lab: Lab, bytes: number): void {
  const shim = loadShim();
  inNamespace(shim, lab.outside, () => {
    const fd = shim.socket(2, 2, 0);
    const address = Uint8Array.of(
      2,
      0,
      0,
      7,
      ...lab.nic.guestAddress.split('.').map(Number),
      ...new Uint8Array(8),
    );
    expect(shim.connect(fd, address, 16)).toBe(0);
    expect(shim.send(fd, new Uint8Array(bytes), bytes, 0)).toBe(bytes);
    shim.close(fd);
  });
}

const options = (lab: Lab) => ({
  netns: lab.guest,
  netvsc: lab.nic.netvsc,
  force: true,
  queues: 2,
  handler: new URL('../../dist/src/handlers/reflect.js', import.meta.url),
});

test('a device whose MTU does not fit a frame is refused, and larger frames are the way out', async () => {
  await using lab = await Lab.create({ mtu: 3000 });
  await expect(openPort(options(lab))).rejects.toMatchObject({
    code: 'ERR_OPTION_INVALID',
    hint: expect.stringContaining('4096'),
  });
  await using port = await openPort({ ...options(lab), frameSize: 4096 });
  send(lab, LONG);
  await until('the packet', () => port.stats().received === 1);
  expect(port.stats().paths.synthetic.rxBytes).toBe(LONG + 42);
});

test.each(['io_uring', 'read/write'] as const)(
  'a packet longer than a frame, after the MTU was raised, is dropped under its own counter (%s)',
  async (tap) => {
    await using lab = await Lab.create({ mtu: 3000 });
    const ip = (...words: string[]): void => void execFileSync('ip', ['-n', lab.guest, ...words]);
    ip('link', 'set', lab.nic.netvsc, 'mtu', '1500');
    await using port = await openPort({ ...options(lab), tap });
    ip('link', 'set', lab.nic.netvsc, 'mtu', '3000');
    send(lab, LONG);
    send(lab, 100);
    await until('the short packet', () => port.stats().received === 1);
    await until('the long packet', () => port.stats().paths.synthetic.rxTooLong === 1);
    for (const { total, accounted, duplicates } of await port.audit()) {
      expect(accounted).toBe(total);
      expect(duplicates).toBe(0);
    }
  },
);
