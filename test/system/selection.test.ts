/** Several ports from one call: each with its own device, handler and options. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPorts, type Port } from '../../dist/src/index.js';
import {
  buildLab,
  drive,
  ECHO,
  expectUnharmed,
  nothingLeft,
  ownedBy,
  passed,
  until,
} from '../support/harness.ts';
import { frame, rawSocket } from '../support/raw.ts';

const BY_FIRST_BYTE = new URL('../fixtures/handlers/by-first-byte.mjs', import.meta.url);
const OUTSIDE_MAC = '02:15:5d:77:00:01';
/** Local experimental EtherType: no stack looks into it. */
const TYPE = '88b5';

describe('two ports of one call with a handler each', () => {
  it('have their own packets handled by their own handler, on both paths', async () => {
    const lab = await buildLab({ nics: 2 });
    const [first, second] = lab.nics as [(typeof lab.nics)[0], (typeof lab.nics)[0]];
    const ports = await openPorts({
      ...{ netns: lab.guest, queues: 2, handler: ECHO },
      ports: [
        { netvsc: first.netvsc, force: true, handlerOptions: { address: first.guestAddress } },
        { netvsc: second.netvsc, force: true, handler: BY_FIRST_BYTE },
      ],
    });
    onTestFinished(() => ports[0]!.close());
    const [echoing, answering] = ports as [Port, Port];
    const errors: Error[] = [];
    for (const port of ports) port.on('error', (error) => errors.push(error));
    const traffic = await drive(lab, first);
    let number = 0;
    /** Sends both ports a frame that one of the handlers answers, through this end of each NIC; returns the answers. */
    const exchange = async (ends: readonly [string, string]): Promise<string[][]> => {
      const sockets = ends.map((end) => rawSocket(lab.host, end));
      const text = `T${++number}`;
      const dropped = echoing.stats().dropped.verdict;
      for (const [i, nic] of lab.nics.entries()) sockets[i]!.send(frame(nic.mac, OUTSIDE_MAC, TYPE, text));
      await until('the echo handler to drop its frame', () => echoing.stats().dropped.verdict > dropped);
      const answers: string[][] = [[], []];
      await until('the answer', () => {
        for (const [i, socket] of sockets.entries()) {
          const found = socket.received().filter((bytes) => bytes.readUInt16BE(12) === 0x88b5);
          answers[i]!.push(...found.map((bytes) => bytes.toString('latin1', 14).trim()));
        }
        return answers[1]!.length > 0;
      });
      return answers;
    };
    expect(await exchange(['s0', 's1'])).toEqual([[], ['T1']]);
    for (const nic of lab.nics) await nic.plug();
    for (const port of ports) await ownedBy(port, 'vf');
    expect(await exchange(['v0', 'v1'])).toEqual([[], ['T2']]);
    await first.moveDataPath('vf');
    await passed(traffic);
    expect(answering.stats().received).toBeLessThan(100);
    expectUnharmed(await traffic.stop());
    expect(errors).toEqual([]);
    await ports[0]!.close();
    await nothingLeft(lab);
  });
});

describe('all ports that the machine does not use', () => {
  it.each([{}, { ports: 'all' as const }])(
    'are refused where there is none, before anything is opened: %j',
    async (given) => {
      const lab = await buildLab();
      const opening = openPorts({ ...given, netns: lab.guest, handler: ECHO });
      await expect(opening).rejects.toMatchObject({
        code: 'ERR_NO_NETVSC',
        hint: expect.stringContaining('--device'),
      });
      await nothingLeft(lab);
    },
  );

  it('are refused without a kernel network, and with an option that is wrong', async () => {
    const wrong = (options: object) => openPorts({ handler: ECHO, ...options });
    await expect(wrong({ network: 'memory' })).rejects.toMatchObject({
      ...{ code: 'ERR_OPTION_INVALID', device: 'ports' },
    });
    await expect(wrong({ ports: 'any' })).rejects.toMatchObject({
      code: 'ERR_OPTION_INVALID',
      device: 'ports',
    });
    await expect(wrong({ ignored: [] })).rejects.toMatchObject({ code: 'ERR_OPTION_UNKNOWN' });
    await expect(wrong({ each: { netvsc: 'eth0' } })).rejects.toMatchObject({ code: 'ERR_OPTION_UNKNOWN' });
    for (const options of [{ each: { vf: 'vf0' } }, { each: {}, ports: [{ netvsc: 'eth0' }] }]) {
      await expect(wrong(options)).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'each' });
    }
  });

  it('are without those that are to be ignored: a named one is a contradiction', async () => {
    const lab = await buildLab();
    const { netvsc, mac } = lab.nic;
    const opening = openPorts({
      ...{ netns: lab.guest, handler: ECHO, ignore: [mac] },
      ports: [{ netvsc, force: true }],
    });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'ignore' });
    await nothingLeft(lab);
  });
});
