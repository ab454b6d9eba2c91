/** What a process with ports tells the service manager that has started it. */
import { expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { openPort } from '../../dist/src/index.js';
import { ServiceManager } from '../../dist/src/service.js';
import { buildLab } from '../support/harness.ts';
import { NotifyReceiver } from '../support/notify.ts';
import { start, twinpath } from '../support/process.ts';

const HANGING = new URL('../fixtures/handlers/hanging.mjs', import.meta.url);

it('the watchdog is fed while all threads move, and not while a worker hangs', {
  tags: 'unprivileged',
}, async () => {
  const manager = new NotifyReceiver(true);
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const port = await openPort({
    ...{ network: 'loop', queues: 2, handler: HANGING, handlerOptions: { gate }, stuckMillis: 60_000 },
  });
  const release = (): void => {
    Atomics.store(gate, 0, 0);
    Atomics.notify(gate, 0);
  };
  onTestFinished(() => {
    release();
    return port.close();
  });
  const service = ServiceManager.find({ NOTIFY_SOCKET: manager.name, WATCHDOG_USEC: '2000000' })!;
  onTestFinished(() => service.close());
  service.ready([port]);
  await manager.got('WATCHDOG=1', 3);
  expect(manager.assignments[0]).toBe('READY=1');
  Atomics.store(gate, 0, 1);
  await manager.got('STATUS=not moving: the worker of queue 0, the worker of queue 1', 2);
  const from = manager.assignments.findIndex((one) => one.includes('queue 0, the worker of queue 1'));
  expect(manager.assignments.slice(from)).not.toContain('WATCHDOG=1');
  release();
  await manager.got('WATCHDOG=1', manager.count('WATCHDOG=1') + 1);
});

it('the manager is told that a port is ready once it can be attached to', async () => {
  const manager = new NotifyReceiver(true);
  const handler = new URL('../../dist/src/handlers/reflect.js', import.meta.url);
  const port = await openPort({ network: 'loop', queues: 1, handler, control: true });
  onTestFinished(() => port.close());
  const service = ServiceManager.find({ NOTIFY_SOCKET: manager.name })!;
  onTestFinished(() => service.close());
  service.ready([port]);
  await manager.got('READY=1');
  expect(port.controlSocket).toMatch(/\/\d+(-\d+)?\.sock$/);
});

it('`twinpath run` is ready when its port is open, drains, and says that it stops', async () => {
  const lab = await buildLab();
  const manager = new NotifyReceiver();
  const where = ['--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force', '--queues', '1'];
  const options = ['--health', '127.0.0.1:0', '--drain', '1', '--every', '1', '--no-control'];
  const run = start(['run', 'echo', ...where, '--option', `address=${lab.nic.guestAddress}`, ...options], {
    env: { ...process.env, NOTIFY_SOCKET: manager.name, WATCHDOG_USEC: '2000000' },
  });
  await manager.got('READY=1');
  await manager.got('WATCHDOG=1', 2);
  await run.said('packets/s in');
  expect(run.stderr).toMatch(/^synthetic +0 packets\/s in, +0 out, 0 dropped$/m);
  const health = /http:\/\/\S+\/health/.exec(run.stderr)![0];
  expect((await fetch(health)).status).toBe(200);
  run.child.kill('SIGTERM');
  await run.said('draining for 1 s');
  const draining = await fetch(health);
  expect([draining.status, await draining.text()]).toEqual([503, 'eth0: the port is draining\n']);
  const { code, stderr } = await run.outcome;
  expect(code, stderr).toBe(0);
  expect(manager.read()).toContain('STOPPING=1');
  expect(manager.assignments).toContain('EXTEND_TIMEOUT_USEC=31000000');
});

it('`twinpath run` refuses a socket and a watchdog that it cannot use, and a drain that nobody sees', async () => {
  const wrong = async (args: readonly string[], env: NodeJS.ProcessEnv): Promise<[number | null, string]> => {
    const { code, stdout } = await twinpath(['run', 'echo', '--json', ...args], {
      env: { ...process.env, ...env },
    });
    return [code, JSON.parse(stdout).error.code];
  };
  expect(await wrong([], { NOTIFY_SOCKET: 'vsock:2:1' })).toEqual([2, 'ERR_OPTION_INVALID']);
  expect(await wrong([], { NOTIFY_SOCKET: '/nowhere/notify' })).toEqual([1, 'ERR_KERNEL']);
  const { name } = new NotifyReceiver();
  expect(await wrong([], { NOTIFY_SOCKET: name, WATCHDOG_USEC: '1000' })).toEqual([2, 'ERR_OPTION_INVALID']);
  expect(await wrong(['--drain', '5'], {})).toEqual([2, 'ERR_OPTION_INVALID']);
});
