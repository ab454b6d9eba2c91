/** The built-in handlers against clients that know nothing of them: kernel sockets and Node's own resolver. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import {
  buildLab,
  expectNoDrops,
  expectUnharmed,
  type Lab,
  passed,
  Scene,
  until,
} from '../support/harness.ts';
import {
  addRouted,
  addStations,
  addTunnels,
  endTunnel,
  forwardAnySource,
  Peer,
  type Said,
} from '../support/peers.ts';

const handler = (file: string): URL => new URL(`../../dist/src/handlers/${file}`, import.meta.url);

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
/** ETH_P_IP as `socket` takes it, in network order. Packets that this host sends are not shown for it. */
const IP_INCOMING = 0x0008;

/** Lines that each conversation must exchange before the next thing happens. */
const SOME_LINES = 10;

/** Until every conversation of the peer has gone on for a while. */
async function goneOn(peer: Peer): Promise<void> {
  const before = await peer.call('said');
  await until('all conversations go on', async () => {
    const now = await peer.call('said');
    return now.every(({ lines, failure }, i) => failure !== '' || lines >= before[i]!.lines + SOME_LINES);
  });
}

/** That no conversation broke, and with whom each was. */
function partners(said: readonly Said[]): string[] {
  expect(said.filter(({ failure }) => failure !== '')).toEqual([]);
  for (const { names } of said) expect(names).toHaveLength(1);
  return said.map(({ names }) => names[0]!);
}

const range = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i);

describe.each(['echo.js', 'echo.wasm'])('%s', (file) => {
  it("answers a kernel's ping and UDP through a failover", async () => {
    const scene = await Scene.openIn(await buildLab(), { handler: handler(file) });
    const traffic = await scene.drive({ rate: 10_000 });
    await scene.plug();
    await passed(traffic);
    await scene.whole();
    await scene.unplug();
    await passed(traffic);
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});

describe('reflect.wasm', () => {
  it('sends every packet back as it came, through a failover', async () => {
    const lab = await buildLab();
    const peer = await Peer.start(lab.outside);
    const back = listen(lab);
    const scene = await Scene.openIn(lab, { handler: handler('reflect.wasm'), handlerOptions: {} });
    let first = 0;
    const some = async (): Promise<void> => {
      await peer.call('send', lab.nic.guestAddress, 4000, 4001, first, 100, 64);
      await until('all packets back', () => back().length >= first + 100);
      first += 100;
    };
    await some();
    await scene.plug();
    await some();
    await scene.unplug();
    await some();
    expect(scene.port.stats().paths.vf).toMatchObject({ rxPackets: 100, txPackets: 100 });
    await scene.finish();
    const packets = back();
    expect(packets.map((packet) => packet.readUInt32BE(42))).toEqual(range(0, first));
    const { nic } = lab;
    for (const packet of packets) {
      expect(packet.subarray(0, 14).toString('hex')).toBe(`02155d770001${nic.mac.replaceAll(':', '')}0800`);
      expect(packet.subarray(26, 38)).toEqual(Buffer.from([10, 77, 0, 1, 10, 77, 0, 2, 15, 161, 15, 160]));
    }
  });

  /** What arrives at the outside host: all of it so far, at each call. */
  function listen(lab: Lab): () => readonly Buffer[] {
    const shim = loadShim();
    const fd = inNamespace(shim, lab.outside, () =>
      check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, IP_INCOMING), 'socket(AF_PACKET)'),
    );
    onTestFinished(() => void shim.close(fd));
    const found: Buffer[] = [];
    const room = Buffer.alloc(2048);
    return () => {
      for (
        let bytes = shim.read(fd, room, room.length);
        bytes > 0;
        bytes = shim.read(fd, room, room.length)
      ) {
        found.push(Buffer.from(room.subarray(0, bytes)));
      }
      return found;
    };
  }
});

describe('dns', () => {
  const ZONE = `$ORIGIN example.test.
    www A 203.0.113.7
    www A 203.0.113.8
    six AAAA 2001:db8::7
    ftp CNAME www
    `.replaceAll(/^ +/gm, '');
  const QUESTIONS: readonly [name: string, type: string, answer: unknown][] = [
    ['www.example.test', 'A', ['203.0.113.7', '203.0.113.8']],
    ['six.example.test', 'AAAA', ['2001:db8::7']],
    ['ftp.example.test', 'A', ['203.0.113.7', '203.0.113.8']],
    ['ftp.example.test', 'CNAME', ['www.example.test']],
    ['nix.example.test', 'A', 'ENOTFOUND'],
    ['www.example.test', 'AAAA', 'ENODATA'],
    ['six.example.test', 'A', 'ENODATA'],
    ['example.test', 'MX', 'ENODATA'],
    ['example.org', 'A', 'EREFUSED'],
  ];

  it("serves Node's resolver through a failover, while the machine serves TCP at the same address", async () => {
    const lab = await buildLab({ arp: true });
    const [client, server] = [await Peer.start(lab.outside), await Peer.start(lab.guest)];
    const { guestAddress } = lab.nic;
    await server.call('listen', 'guest', 8000);
    const scene = await Scene.openIn(lab, {
      handler: handler('dns.js'),
      handlerOptions: { zone: ZONE, address: guestAddress },
    });
    await client.call('talk', guestAddress, 8000, [0, 0, 0]);

    let rounds = 0;
    let ended = false;
    const wrong: unknown[] = [];
    const asking = (async () => {
      for (; !ended; rounds++) {
        const answers = QUESTIONS.map(([name, type]) => client.call('resolve', guestAddress, name, type));
        for (const [i, answer] of (await Promise.all(answers)).entries()) {
          const [name, type, right] = QUESTIONS[i]!;
          const sorted = Array.isArray(answer) ? answer.sort() : answer;
          if (JSON.stringify(sorted) !== JSON.stringify(right)) wrong.push({ name, type, answer });
        }
      }
    })();
    const askedOn = async (): Promise<void> => {
      const before = rounds;
      await until('more answers', () => rounds >= before + 10);
      await goneOn(client);
    };
    await askedOn();
    await scene.plug();
    await askedOn();
    await scene.unplug();
    await askedOn();
    ended = true;
    await asking;

    expect(wrong).toEqual([]);
    expect(partners(await client.call('said'))).toEqual(['guest', 'guest', 'guest']);
    // An answer may be here before the worker has counted that it went.
    await until('every answer counted', () => scene.port.stats().transmitted >= rounds * QUESTIONS.length);
    const { paths, passed, transmitted } = scene.port.stats();
    expect(transmitted).toBe(rounds * QUESTIONS.length);
    expect(paths.vf.txPackets).toBeGreaterThan(0);
    expect(passed).toBeGreaterThan(SOME_LINES);
    await client.call('hangUp');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('balance', () => {
  const VIP = '10.77.0.100';
  const UDP_PORTS = range(40_000, 48);
  const TCP_PORTS = range(41_000, 12);

  it('keeps every connection at its backend through failovers, and spreads them over all', async () => {
    const lab = await buildLab();
    const [first, ...backends] = addStations(lab, 4, VIP);
    const client = await Peer.start(first!.namespace);
    for (const [i, { namespace }] of backends.entries()) {
      await (await Peer.start(namespace)).call('listen', `backend${i}`, 80);
    }
    const scene = await Scene.openIn(lab, {
      handler: handler('balance.js'),
      handlerOptions: { vip: VIP, backends: backends.map(({ mac }) => mac), ports: '80' },
    });

    await client.call('talk', VIP, 80, TCP_PORTS);
    const names = { udp: [] as string[][], tcp: [] as string[][] };
    const ask = async (): Promise<void> => {
      await goneOn(client);
      names.udp.push(await client.call('askUdp', VIP, 80, UDP_PORTS));
      names.tcp.push(await client.call('ask', VIP, 80, range(42_000, 12)));
    };
    await ask();
    const going = ask(); // the VF comes while they ask
    await scene.plug();
    await going;
    await ask();
    const gone = ask();
    await scene.unplug();
    await gone;
    await ask();

    for (const asked of [names.udp, names.tcp]) {
      expect(asked).toHaveLength(5);
      for (const again of asked) expect(again).toEqual(asked[0]);
    }
    const talks = partners(await client.call('said'));
    for (const served of [talks, names.udp[0]!, names.tcp[0]!]) {
      expect(new Set(served)).toEqual(new Set(['backend0', 'backend1', 'backend2']));
    }
    expect(scene.port.stats().paths.vf.txPackets).toBeGreaterThan(UDP_PORTS.length);
    expectNoDrops(scene.port);
    await client.call('hangUp');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('balance by NAT', () => {
  it('keeps every connection of clients and backends behind a router, through failovers', async () => {
    const lab = await buildLab({ arp: true });
    const [first, second, ...backends] = addRouted(lab, 5);
    const hosts = [first!, second!, ...backends];
    const peers = await Promise.all(hosts.map(({ namespace }) => Peer.start(namespace)));
    const [clients, servers] = [peers.slice(0, 2), peers.slice(2)];
    const vip = lab.nic.guestAddress;
    for (const [i, server] of servers.entries()) await server.call('listen', `backend${i}`, 8080);
    const addresses = backends.map(({ address }) => `${address}:8080`);
    const scene = await Scene.openIn(lab, {
      handler: handler('balance.js'),
      handlerOptions: { mode: 'nat', vip, ports: '80', backends: addresses },
    });
    for (const client of clients) await client.call('talk', vip, 80, range(41_000, 6));
    const on = async (): Promise<string[]> => {
      for (const client of clients) await goneOn(client);
      return clients[0]!.call('askUdp', vip, 80, range(40_000, 16));
    };
    const udp = [await on()];
    await scene.plug();
    udp.push(await on());
    await scene.unplug();
    udp.push(await on());
    await scene.plug();
    udp.push(await on());
    for (const names of udp) expect(names).toEqual(udp[0]);
    const all = new Set(['backend0', 'backend1', 'backend2']);
    expect(new Set(udp[0])).toEqual(all);
    const talks = [];
    for (const client of clients) talks.push(...partners(await client.call('said')));
    expect(new Set(talks)).toEqual(all);
    expect(scene.port.stats().paths.vf.txPackets).toBeGreaterThan(SOME_LINES);
    for (const client of clients) await client.call('hangUp');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('balance by VXLAN', () => {
  it('reaches backends behind a router, which reply to the client themselves, through a failover', async () => {
    const lab = await buildLab({ arp: true });
    const [first, ...backends] = addRouted(lab, 3);
    const vip = '10.77.0.100';
    const macs = backends.map(({ namespace }, i) => endTunnel(namespace, vip, 7, `02:00:00:00:07:0${i}`));
    forwardAnySource(lab.outside);
    const hosts = [first!, ...backends];
    const [client, ...servers] = await Promise.all(hosts.map(({ namespace }) => Peer.start(namespace)));
    for (const [i, server] of servers.entries()) await server.call('listen', `backend${i}`, 80);
    const scene = await Scene.openIn(lab, {
      handler: handler('balance.js'),
      handlerOptions: {
        ...{ mode: 'vxlan', vip, source: lab.nic.guestAddress, vni: 7 },
        backends: backends.map(({ address }, i) => `${address}@${macs[i]!}`),
      },
    });
    await client!.call('talk', vip, 80, range(41_000, 6));
    await goneOn(client!);
    await scene.plug();
    await goneOn(client!);
    const names = await client!.call('askUdp', vip, 80, range(40_000, 16));
    await scene.unplug();
    await goneOn(client!);
    expect(await client!.call('askUdp', vip, 80, range(40_000, 16))).toEqual(names);
    const all = new Set(['backend0', 'backend1']);
    expect(new Set(names)).toEqual(all);
    expect(new Set(partners(await client!.call('said')))).toEqual(all);
    expect(scene.port.stats().paths.vf.txPackets).toBeGreaterThan(SOME_LINES);
    await client!.call('hangUp');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('gwlb', () => {
  it('is between two hosts on tunnels of the kernel, through a failover, with a firewall in it', async () => {
    const lab = await buildLab({ arp: true });
    const { guestAddress, outsideAddress } = lab.nic;
    const [outer, inner] = addTunnels(lab, outsideAddress, guestAddress);
    const places = [outer.namespace, inner.namespace, lab.guest, lab.outside];
    const peers = await Promise.all(places.map((namespace) => Peer.start(namespace)));
    const [client, server, guest, probe] = peers as [Peer, Peer, Peer, Peer];
    for (const port of [8022, 8023]) await server.call('listen', 'inner', port);
    await guest.call('listen', 'guest', 8080);
    const scene = await Scene.openIn(lab, {
      handler: handler('gwlb.js'),
      handlerOptions: { inner: 'firewall', innerOptions: { deny: 'tcp/8023' } },
    });
    await client.call('talk', inner.address, 8022, range(41_000, 4));
    await goneOn(client);
    await scene.plug();
    await goneOn(client);
    // A health probe is the machine's.
    expect(await probe.call('ask', guestAddress, 8080, [0])).toEqual(['guest']);
    await scene.unplug();
    await goneOn(client);
    const dropped = (): number => scene.port.stats().dropped.verdict;
    const before = dropped();
    await client.call('attempt', inner.address, 8023);
    await until('a dropped packet', () => dropped() > before);
    expect(await client.call('attempted')).toEqual(['pending']);
    await client.call('giveUp');
    expect(partners(await client.call('said'))).toEqual(Array(4).fill('inner'));
    expect(scene.port.stats().paths.vf.txPackets).toBeGreaterThan(SOME_LINES);
    await client.call('hangUp');
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});

describe('firewall', () => {
  /** A lab where both ends have servers at 8022 and 8023, and a port with these rules between them. */
  async function guarded(handlerOptions: Record<string, unknown>): Promise<Guarded> {
    const lab = await buildLab({ arp: true });
    const [outside, guest] = [await Peer.start(lab.outside), await Peer.start(lab.guest)];
    for (const port of [8022, 8023]) {
      await outside.call('listen', 'outside', port);
      await guest.call('listen', 'guest', port);
    }
    const scene = await Scene.openIn(lab, {
      ...{ handler: handler('firewall.js'), handlerOptions, host: 'inline' },
    });
    return { scene, outside, guest, ...lab.nic };
  }

  interface Guarded {
    readonly scene: Scene;
    readonly outside: Peer;
    readonly guest: Peer;
    readonly guestAddress: string;
    readonly outsideAddress: string;
  }

  /** That a connection is not answered: packets of it are dropped, and it is neither open nor refused. */
  async function expectSilence(scene: Scene, from: Peer, address: string, port: number): Promise<void> {
    const dropped = (): number => scene.port.stats().dropped.verdict;
    const before = dropped();
    await from.call('attempt', address, port);
    await until('a dropped packet', () => dropped() > before);
    expect(await from.call('attempted')).toEqual(['pending']);
    await from.call('giveUp');
  }

  it('lets in what is allowed, through a failover, and nothing else', async () => {
    const { scene, outside, guest, guestAddress, outsideAddress } = await guarded({ allow: 'tcp/8022' });
    await outside.call('talk', guestAddress, 8022, [0, 0]);
    await scene.plug();
    await goneOn(outside);
    await expectSilence(scene, outside, guestAddress, 8023);
    await scene.unplug();
    await goneOn(outside);
    await expectSilence(scene, outside, guestAddress, 8023);
    expect(partners(await outside.call('said'))).toEqual(['guest', 'guest']);
    expect(await guest.call('accepted')).toBe(2);
    // Without state a reply is a packet like any other, and no rule allows it.
    await expectSilence(scene, guest, outsideAddress, 8022);
    expect(scene.port.stats().paths.vf.txPackets).toBeGreaterThan(SOME_LINES);
    await outside.call('hangUp');
    await scene.finish();
  });

  it("lets in replies to the machine's own connections where local ports are allowed", async () => {
    const { scene, outside, guest, guestAddress, outsideAddress } = await guarded({
      allow: ['tcp/8022', 'tcp/32768-60999'],
      out: '10.77.0.1:tcp/8023',
    });
    expect(await guest.call('ask', outsideAddress, 8022, [0])).toEqual(['outside']);
    expect(await outside.call('ask', guestAddress, 8022, [0])).toEqual(['guest']);
    await expectSilence(scene, outside, guestAddress, 8023);
    await expectSilence(scene, guest, outsideAddress, 8023);
    expect(await outside.call('accepted')).toBe(1);
    await scene.finish();
  });

  it('keeps out what is denied and lets everything else through', async () => {
    const { scene, outside, guest, guestAddress, outsideAddress } = await guarded({ deny: 'tcp/8023' });
    expect(await guest.call('ask', outsideAddress, 8023, [0])).toEqual(['outside']);
    expect(await outside.call('ask', guestAddress, 8022, [0])).toEqual(['guest']);
    expect(await outside.call('askUdp', guestAddress, 8023, [0])).toEqual(['guest']);
    await expectSilence(scene, outside, guestAddress, 8023);
    await scene.finish();
  });
});
