/** Opening and closing: what is not there, and that nothing is left. What is in the way: faults/other-programs.test.ts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort, openPorts } from '../../dist/src/port.js';
import { buildLab, ECHO, nothingLeft, ownedBy, passed, Scene, until } from '../support/harness.ts';
import { attachments, descriptors, ringMappings } from '../support/machine-state.ts';

describe('a port', () => {
  it('closes when its signal aborts, and as often as it is asked', async () => {
    const controller = new AbortController();
    const scene = await Scene.open({ port: { signal: controller.signal } });
    await scene.plug();
    const closed = new Promise<void>((resolve) => scene.port.once('close', resolve));
    controller.abort();
    await closed;
    await scene.close();
    await scene.port.close();
    await scene.port[Symbol.asyncDispose]();
    await expect(scene.port.audit()).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(scene.port.stats().queues).toHaveLength(2);
  });

  it('opens and closes again and again in one process', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    for (let round = 0; round < 3; round++) {
      const scene = await Scene.openIn(lab);
      await ownedBy(scene.port, 'vf');
      await scene.close();
    }
  });

  it('closes under load with the VF in use, and the kernel answers', async () => {
    const scene = await Scene.open({ lab: { standIn: 'bridge' } });
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    await scene.port.close();
    await nothingLeft(scene.lab);
    const { icmpReceived } = traffic.progress();
    await until('pings answered by the kernel', () => traffic.progress().icmpReceived >= icmpReceived + 5);
    await traffic.stop({ settleMillis: 0 });
    await scene.close();
  });
});

describe('opening', () => {
  it.each([
    [{ netvsc: 'eth9', force: true }, 'ERR_DEVICE_NOT_FOUND', /eth9/],
    [{ netvsc: 'eth0' }, 'ERR_DEVICE_NOT_NETVSC', /eth0/],
    [{ mac: '02:00:00:00:00:99' }, 'ERR_DEVICE_NOT_FOUND', /02:00:00:00:00:99/],
    [{}, 'ERR_NO_NETVSC', /NetVSC/],
  ] as const)('%j is refused, and changes nothing', async (wanted, code, message) => {
    const lab = await buildLab();
    await lab.nic.plug();
    const before = { descriptors: descriptors(), mappings: ringMappings() };
    const opening = openPort({ ...wanted, handler: ECHO, netns: lab.guest, queues: 2 });
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(attachments(lab.guest)).toEqual([]);
    await until('the descriptors closed', () => descriptors().length <= before.descriptors.length);
    expect({ descriptors: descriptors(), mappings: ringMappings() }).toEqual(before);
  });

  it('openPorts opens no port if one of two cannot be opened', async () => {
    const lab = await buildLab();
    const ports = [
      { netvsc: 'eth0', force: true },
      { netvsc: 'eth9', force: true },
    ];
    const opening = openPorts({ ports, handler: ECHO, netns: lab.guest, queues: 2 });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND' });
    expect(attachments(lab.guest)).toEqual([]);
  });

  it('gives up opening when its signal aborts, although the handler never comes to its end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tp-endless-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'endless.mjs');
    writeFileSync(file, 'await new Promise(() => setInterval(() => {}, 1000)); export default () => {};');
    const controller = new AbortController();
    const opening = openPort({ network: 'memory', queues: 1, handler: file, signal: controller.signal });
    setTimeout(() => controller.abort(), 300);
    await expect(opening).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('with a signal that has aborted opens nothing', async () => {
    const lab = await buildLab();
    const reason = new Error('not now');
    const opening = openPort({
      ...{ netvsc: 'eth0', force: true, handler: ECHO, handlerOptions: { address: '10.77.0.2' } },
      ...{ netns: lab.guest, queues: 2, signal: AbortSignal.abort(reason) },
    });
    await expect(opening).rejects.toBe(reason);
    expect(attachments(lab.guest)).toEqual([]);
  });
});
