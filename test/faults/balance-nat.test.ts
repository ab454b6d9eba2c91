/** Connections through `balance` by NAT are in memory that outlives the worker that made them. */
import { expect, it } from 'vitest';
import { buildLab, Scene, until } from '../support/harness.ts';
import { addRouted, Peer } from '../support/peers.ts';

const SOME_LINES = 20;

it('TCP connections through NAT go on when their worker dies, on either path', async () => {
  const lab = await buildLab({ arp: true });
  const hosts = addRouted(lab, 3);
  const peers = await Promise.all(hosts.map(({ namespace }) => Peer.start(namespace)));
  const [client, ...servers] = peers as [Peer, ...Peer[]];
  for (const [i, server] of servers.entries()) await server.call('listen', `backend${i}`, 8080);
  const orders = new Int32Array(new SharedArrayBuffer(8));
  const vip = lab.nic.guestAddress;
  const scene = await Scene.openIn(lab, {
    handler: new URL('../fixtures/handlers/mortal-nat.mjs', import.meta.url),
    handlerOptions: {
      orders,
      ...{ mode: 'nat', vip, ports: '80' },
      backends: hosts.slice(1).map(({ address }) => `${address}:8080`),
    },
  });
  let [died, replaced] = [0, 0];
  scene.port.on('worker', ({ state }) => {
    if (state === 'died') died++;
    else if (state === 'started' && died > 0) replaced++;
  });
  await client.call('talk', vip, 80, [41_000, 41_001, 41_002, 41_003]);
  const goOn = async (): Promise<void> => {
    const before = await client.call('said');
    await until('all conversations go on', async () => {
      const now = await client.call('said');
      return now.every(({ lines, failure }, i) => failure !== '' || lines >= before[i]!.lines + SOME_LINES);
    });
  };
  await goOn();
  for (const [n, change] of [() => scene.plug(), () => scene.unplug()].entries()) {
    await change();
    Atomics.store(orders, 0, 1);
    await until('another worker', () => replaced === n + 1);
    await goOn();
  }
  const said = await client.call('said');
  for (const { failure, names } of said) expect([failure, names.length]).toEqual(['', 1]);
  await client.call('hangUp');
  await scene.whole();
  await scene.close();
});
