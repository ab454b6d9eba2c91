import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { check, Errno } from '../../../src/errors.ts';
import { loadShim } from '../../../src/kernel/shim.ts';

const fixture = fileURLToPath(new URL('../../fixtures/hostile-calls.mjs', import.meta.url));
const source = readFileSync(new URL('../../../native/shim.c', import.meta.url), 'utf8');
const exported = [...source.matchAll(/^API int (tp_\w+)\(/gm)].map(([, name]) => name!);
/** Nothing that a caller passes can be wrong. */
const WITHOUT_ERRORS = ['tp_abi', 'tp_eventfd', 'tp_millis'];

test('every exported function answers hostile arguments with an error, and changes nothing outside of its room', () => {
  expect(exported.length).toBeGreaterThan(30);
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [fixture, loadShim().file], {
    encoding: 'utf8',
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  const told: Record<string, { calls: number; errors: number }> = JSON.parse(stdout);
  expect(Object.keys(told).sort()).toEqual([...exported].sort());
  for (const name of exported.filter((name) => !WITHOUT_ERRORS.includes(name))) {
    expect(told[name]!.errors, name).toBeGreaterThan(0);
  }
});

test('a length beyond the end of a view is an error that names the call and EFAULT', () => {
  const shim = loadShim();
  const short = new Uint8Array(4);
  expect(() => check(shim.read(0, short, 8), 'read')).toThrow('(read: EFAULT, bad address)');
  for (const result of [
    shim.write(1, short, 5),
    shim.ioctl(0, 0x8910, short),
    shim.bpf(0, short, 8),
    shim.bind(0, short, 16),
    shim.connect(0, short, 16),
    shim.send(0, short, 5, 0),
    shim.recv(0, short, 5, 0),
    shim.setsockopt(0, 1, 1, short, 8),
    shim.getsockopt(0, 1, 1, short, 8),
    shim.poll(new Int32Array(2), 2, 0),
    shim.pollMicros(new Int32Array(2), 2, 0),
    shim.sendmmsg(0, new BigInt64Array(8), 2, 0),
    shim.recvmmsg(0, new BigInt64Array(8), 2, 0),
    shim.xskOpen(new BigInt64Array(23), short),
    shim.xskClose(new BigInt64Array(23), short),
    shim.uringOpen(new BigInt64Array(11), short),
  ]) {
    expect(result).toBe(Errno.EFAULT);
  }
});
