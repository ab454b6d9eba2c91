/** A handler of a running port gets other options from a terminal, under real connections. */
import { expect, it } from 'vitest';
import { buildLab, expectNoDrops, Scene, until } from '../support/harness.ts';
import { addRouted, Peer } from '../support/peers.ts';
import { twinpath } from '../support/process.ts';

const SOME_LINES = 20;

it('has other backends by "twinpath set" while packets flow, and keeps the flows of those that stay', async () => {
  const lab = await buildLab({ arp: true });
  const hosts = addRouted(lab, 3);
  const peers = await Promise.all(hosts.map(({ namespace }) => Peer.start(namespace)));
  const [client, ...servers] = peers as [Peer, ...Peer[]];
  for (const [i, server] of servers.entries()) await server.call('listen', `backend${i}`, 8080);
  const [first, second] = hosts.slice(1).map(({ address }) => `${address}:8080`);
  const vip = lab.nic.guestAddress;
  const scene = await Scene.openIn(lab, {
    handler: new URL('../../dist/src/handlers/balance.js', import.meta.url),
    handlerOptions: { mode: 'nat', vip, ports: '80', backends: [first] },
    queues: 2,
  });
  const { port } = scene;
  await until('the control socket', () => port.controlSocket !== undefined);
  const said = () => client.call('said');
  const goOn = async (): Promise<void> => {
    const before = await said();
    await until('all conversations go on', async () => {
      const now = await said();
      return now.every(({ lines, failure }, i) => failure !== '' || lines >= before[i]!.lines + SOME_LINES);
    });
  };
  const set = async (...pairs: string[]) => {
    const done = await twinpath(['set', String(process.pid), ...pairs, '--json']);
    return { code: done.code, answer: JSON.parse(done.stdout) };
  };

  await client.call('talk', vip, 80, [41_000, 41_001, 41_002, 41_003]);
  await goOn();
  // In turns, while lines go and come on each connection.
  for (let turn = 0; turn < 2; turn++) {
    const backends = [`${first},${second}`, second][turn]!;
    const { code, answer } = await set(`handler.backends=${backends}`);
    expect([code, answer]).toEqual([0, { device: 'eth0', handler: { backends } }]);
    await goOn();
  }
  expectNoDrops(port);
  await client.call('talk', vip, 80, [41_004, 41_005, 41_006, 41_007]);
  await goOn();

  // The options are the handler's, whichever path it serves.
  await scene.plug();
  expect((await set(`handler.backends=${first}`)).code).toBe(0);
  await goOn();
  await scene.unplug();
  await goOn();
  for (const [i, { failure, names }] of (await said()).entries())
    expect([i, failure, names]).toEqual([i, '', [i < 4 ? 'backend0' : 'backend1']]);

  for (const [pairs, code] of [
    [['handler.backend=10.0.0.1'], 'ERR_OPTION_UNKNOWN'],
    [['handler.ports=81'], 'ERR_OPTION_INVALID'],
    [['handler.arp=false', 'mtu=1400'], 'ERR_OPTION_INVALID'],
  ] as const) {
    const refused = await set(...pairs);
    expect([pairs, refused.code, refused.answer.error.code]).toEqual([pairs, 2, code]);
  }
  await goOn();
  await client.call('hangUp');
  await scene.whole();
  await scene.close();
});
