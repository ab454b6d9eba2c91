/**
 * One port on a machine, in the guest: what a scenario does to it, and what came of it.
 *
 * The NetVSC is played by a bridge over the synthetic NIC: the VF joins it as it joins a NetVSC, so what the VF's XDP program
 * passes goes to the machine by it. With --failover the kernel makes a net_failover device of both by itself, and the port
 * finds it by itself; and a scenario may open its port on one card alone.
 */
import { execFileSync } from 'node:child_process';
import { constants, existsSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { imbalances } from '../../dist/src/cli/imbalances.js';
import { openPorts } from '../../dist/src/index.js';
import { SECOND_ADDRESS } from './second.mjs';

const { RIG_SYN, RIG_MAC, RIG_QUEUES, RIG_FAILOVER } = process.env;
const NETVSC = 'netvsc0';
/** Its own, lest the port take it for the VF: a NetVSC has no such leg. */
const SYNTHETIC_MAC = '02:00:00:00:00:08';
const OUTSIDE_MAC = '02:00:00:00:00:99';
/** Who the guest answers for: its own address, and that of a second port. */
const ADDRESSES = ['10.77.0.2', SECOND_ADDRESS];
/** Unicast and multicast addresses that scenarios have accepted. */
export const ADDRESSES_TO_ACCEPT = ['02:00:00:00:01:01', '02:00:00:00:01:02', '01:00:5e:00:00:fb'];
/** Generous: what has not happened on an emulated machine by then never will. */
const PATIENCE_MILLIS = 120_000;

/** A slow guest must not have more packets under way than the window says: the host's taps hold 4000. */
const WRITE_OFF_MILLIS = 60_000;

const sh = (command) => execFileSync('bash', ['-c', command], { encoding: 'utf8' });
const read = (file) => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '';
  }
};

/** The remote control, one order at a time: see rig.mjs. Looks for the answer, since a read that waits cannot be ended. */
class Rig {
  #fd = -1;
  #before = Promise.resolve();

  ask(order) {
    const answer = this.#before.then(() => this.#exchange(order));
    this.#before = answer.catch(() => {});
    return answer;
  }

  async #exchange(order) {
    if (this.#fd < 0)
      this.#fd = openSync('/dev/virtio-ports/rig.ctl', constants.O_RDWR | constants.O_NONBLOCK);
    writeSync(this.#fd, `${order}\n`);
    let text = '';
    for (;;) {
      text += this.#read();
      const end = /^= (\d+)\n/m.exec(text);
      if (end === null) {
        await sleep(5);
        continue;
      }
      const said = text.slice(0, end.index).replace(/^\| /gm, '').trimEnd();
      if (end[1] === '0') return said;
      throw new Error(`rig ${order}: ${said}`);
    }
  }

  #read() {
    const buffer = Buffer.alloc(65536);
    try {
      return buffer.toString('utf8', 0, readSync(this.#fd, buffer));
    } catch (error) {
      if (error.code === 'EAGAIN') return '';
      throw error;
    }
  }
}

export const rig = new Rig();

export async function until(what, condition, millis = PATIENCE_MILLIS) {
  const deadline = Date.now() + millis;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${millis / 1000} s`);
    await sleep(20);
  }
}

/** The stand-in for a NetVSC, once a boot; or the kernel's net_failover device is set up, with whatever it stands on. */
export function buildNetvsc() {
  if (RIG_FAILOVER) return void sh(`ip link set ${failoverDevice()} up`);
  sh(`
    ip link add ${NETVSC} type bridge ageing_time 0 mcast_snooping 0
    ip link set ${NETVSC} address ${RIG_MAC}
    ip link set ${RIG_SYN} address ${SYNTHETIC_MAC}
    ip link set ${RIG_SYN} master ${NETVSC} up
    ip link set ${NETVSC} up
    bridge fdb replace ${OUTSIDE_MAC} dev ${RIG_SYN} master static
    ethtool -K ${RIG_SYN} lro off rx-gro-hw off >/dev/null 2>&1 || true
  `);
}

/** What a port finds, or is told to take for a NetVSC. */
export const netvscName = () => (RIG_FAILOVER ? failoverDevice() : NETVSC);

/** By its driver: another way than the port's. */
const failoverDevice = () =>
  readdirSync('/sys/class/net').find((name) =>
    sh(`ethtool -i ${name} 2>/dev/null || true`).includes('driver: net_failover'),
  );

/** The network device in a slot of the machine, or undefined. */
function deviceIn(slot) {
  const card = `/sys/bus/pci/devices/${process.env[`RIG_VF_PCI${slot}`]}`;
  const places = existsSync(card)
    ? [
        card,
        ...readdirSync(card)
          .filter((name) => name.startsWith('virtio'))
          .map((name) => `${card}/${name}`),
      ]
    : [];
  for (const place of places) if (existsSync(`${place}/net`)) return readdirSync(`${place}/net`)[0];
  return undefined;
}

/** The name of the card in a slot, which is plugged in if there is none. */
async function cardIn(slot, model) {
  if (deviceIn(slot) === undefined) await rig.ask(`vf add ${slot} ${model}`);
  await until(`a card in slot ${slot}`, () => deviceIn(slot) !== undefined);
  return deviceIn(slot);
}

/** What a card in slot 1 is set to, as ethtool tells it, before there is a port on it or after; what it cannot be asked is left out. */
export async function settingsOf(model) {
  const device = await cardIn(1, model);
  sh(`ip link set ${device} up`);
  const told = sh(`for ask in -k -l -x; do ethtool $ask ${device} 2>/dev/null || true; done`);
  // What becomes of a driver's own table is the kernel's own, in another order.
  const shares = new Map();
  const others = told.split('\n').filter((line) => {
    const row = /^ +\d+:((?: +\d+)+)$/.exec(line)?.[1].trim().split(/ +/);
    for (const queue of row ?? []) shares.set(queue, (shares.get(queue) ?? 0) + 1);
    return row === undefined;
  });
  return [...others, ...[...shares].sort().map(([queue, share]) => `queue ${queue}: ${share}`)].join('\n');
}

const nonZero = (counters) => Object.fromEntries(Object.entries(counters).filter(([, n]) => n > 0));

export class Machine {
  /** The one whose port is open. */
  static current;
  notes = [];
  news = [];
  failures = [];
  slot = 1;
  /** Packets that a scenario may lose. */
  allowed = 0;
  /** Whether packets come in order: see {@link drive}. */
  inOrder = true;

  static async open(options = {}) {
    const machine = new Machine();
    await machine.openPort(options);
    return machine;
  }

  async openPort({ others = [], ...options } = {}) {
    Machine.current = this;
    const named =
      RIG_FAILOVER || options.device ? { device: options.device } : { netvsc: NETVSC, force: true };
    const [port] = await openPorts({
      queues: Number(RIG_QUEUES),
      handler: new URL('../../dist/src/handlers/echo.js', import.meta.url),
      handlerOptions: { address: ADDRESSES },
      ...options,
      ports: [named, ...others],
    });
    this.port = port;
    port.on('error', ({ code, message }) => {
      const [line] = message.split('\n');
      // What a card cannot do is told, and no failure.
      if (code === 'ERR_DEVICE_SETTINGS') this.notes.push(line);
      else this.failures.push(line);
    });
    port.on('link', (news) => this.news.push(`${news.path} ${news.state} ${news.detail ?? ''}`.trim()));
  }

  /** In the place of a port that another process holds: see held.mjs. */
  static behind(port) {
    const machine = new Machine();
    machine.port = port;
    return machine;
  }

  /** Whether the card has an XDP program. */
  get hasProgram() {
    return sh(`ip -d link show ${this.vf}`).includes('xdp');
  }

  /** Whether the card has a configuration, as the kernel tells others: see `Port.configure`. */
  checkConfigured({ mtu, unicast, multicast, promiscuous }) {
    const [link] = JSON.parse(sh(`ip -d -j link show ${this.vf}`));
    const accepted = sh(`bridge fdb show dev ${this.vf}`);
    const asked = [...unicast, ...multicast];
    const wrong = [
      ...(link.mtu === mtu ? [] : [`MTU ${link.mtu}, not ${mtu}`]),
      // As a leg of the bridge that stands for the NetVSC it is promiscuous once.
      ...(link.promiscuity === (promiscuous ? 2 : 1) ? [] : [`promiscuity ${link.promiscuity}`]),
      ...ADDRESSES_TO_ACCEPT.filter((address) => accepted.includes(address) !== asked.includes(address)),
    ];
    if (wrong.length > 0) this.failures.push(`${this.vf} is not configured as asked: ${wrong.join(', ')}`);
  }

  /** On the card in slot 1 alone, by whichever path that comes to. */
  static async openAlone(model, options) {
    const device = await cardIn(1, model);
    sh(`ip link set ${device} nomaster; ip link set ${device} up`);
    await rig.ask('path vf');
    const machine = await Machine.open({ ...options, device });
    machine.vf = device;
    const refused = () => machine.notes.some((note) => note.includes('takes no XDP program'));
    await until('AF_XDP, or word that there is none', () => refused() || machine.port.paths.vf !== undefined);
    machine.alone = refused() ? 'synthetic' : 'vf';
    await machine.owned(machine.alone);
    machine.mode = machine.port.paths[machine.alone].mode;
    return machine;
  }

  /** A card alone goes down, which leaves the port no path, and comes up. */
  async blink() {
    sh(`ip link set ${this.vf} down`);
    await this.owned('none');
    sh(`ip link set ${this.vf} up`);
    await this.owned(this.alone);
  }

  get owners() {
    return this.port.stats().queues.map(({ owner }) => owner);
  }

  /** The VF as the host gives it: it joins, and is opened 100 ms later. The host switches when it has a carrier. */
  async plug(model, { slot = 1, late = false } = {}) {
    this.slot = slot;
    const name = await cardIn(slot, model);
    this.vf = name;
    if (RIG_FAILOVER) return void (await this.setUp(late)); // it has joined already, and is open
    sh(`
      ip link set ${name} master ${NETVSC}
      bridge link set dev ${name} learning off flood off mcast_flood off bcast_flood off
    `);
    await sleep(100);
    await this.setUp(late);
  }

  async setUp(late = false) {
    sh(`ip link set ${this.vf} up`);
    await this.#carrier();
    if (late) await this.owned('vf');
    await rig.ask('path vf');
    await this.owned('vf');
    this.mode = this.port.paths.vf?.mode;
  }

  async setDown() {
    await rig.ask('path syn');
    sh(`ip link set ${this.vf} down`);
    await this.owned('synthetic');
  }

  async carrier(on) {
    await rig.ask(`link vf ${on ? 'up' : 'down'}`);
    if (on) await this.#carrier();
    await rig.ask(`path ${on ? 'vf' : 'syn'}`);
    await this.owned(on ? 'vf' : 'synthetic');
  }

  #carrier() {
    const file = `/sys/class/net/${this.vf}/carrier`;
    return until(`a carrier of ${this.vf}`, () => read(file) === '1');
  }

  /** The card is gone; the guest is told only once the port has found out by itself. */
  async yank() {
    await rig.ask('vf yank');
    await rig.ask('path syn');
    await this.owned('synthetic');
    sh(`echo 1 > /sys/bus/pci/devices/${process.env[`RIG_VF_PCI${this.slot}`]}/remove`);
  }

  /** The host moves its data path, then asks for the VF back: what waits in the VF's rings is still there then. */
  async unplug() {
    await rig.ask('path syn');
    await rig.ask('vf del');
    await this.owned('synthetic');
  }

  async owned(path) {
    await until(`all queues on ${path}`, () => this.owners.every((owner) => owner === path)).catch(
      (error) => {
        throw new Error(`${error.message}, but on ${this.owners}; ${this.news.slice(-3).join(', ')}`);
      },
    );
  }

  /**
   * Traffic from outside. With more than the guest answers at once packets wait in the host's taps too, one for each leg:
   * when the host moves its data path, what waits in one is overtaken by the other before the guest sees any of it.
   */
  async drive(options = {}) {
    const pace = { rate: 400, window: 400, icmpRate: 2, writeOffMillis: WRITE_OFF_MILLIS, ...options };
    this.inOrder = pace.window <= 400;
    await rig.ask(`traffic start ${JSON.stringify(pace)}`);
  }

  /** The same in a VLAN, in full frames and slowly. */
  async driveTagged() {
    await rig.ask('traffic tagged');
  }

  /** Until so many more packets have come back. */
  async passed(packets = 150) {
    const look = async () => JSON.parse(await rig.ask('traffic look')).received;
    const before = await look();
    await until(`${packets} more packets back`, async () => {
      await sleep(200);
      return (await look()) >= before + packets;
    });
  }

  /** Ends traffic and port, and says what came of them. */
  async finish() {
    const { packets, icmp, untagged = 0 } = JSON.parse(await rig.ask('traffic stop'));
    if (untagged > 0) this.failures.push(`${untagged} came back without their tag`);
    const { port } = this;
    await until('the counters settle', () => imbalances(port.stats()).length === 0, 5_000).catch(() => {});
    this.failures.push(...imbalances(port.stats()));
    const frames = await port.audit();
    for (const { worker, total, accounted, duplicates } of frames) {
      if (accounted !== total || duplicates !== 0) {
        this.failures.push(`worker ${worker}: ${accounted} of ${total} frames, ${duplicates} twice`);
      }
    }
    const { paths, queues, dropped } = port.stats();
    const counted = (name) => Object.values(paths).reduce((sum, path) => sum + (path[name] ?? 0), 0);
    await port.close();
    if (this.alone !== undefined) {
      await rig.ask('path syn');
      sh(`ip link set ${this.vf} down`);
    }
    const sum = (what) => packets[what] + icmp[what];
    const result = {
      ...{ sent: sum('sent'), received: sum('received'), lost: sum('lost') },
      ...{ doubled: sum('duplicated'), reordered: sum('reordered') },
      ...{
        rescued: counted('txRescued'),
        retried: counted('txRetried'),
        handedOver: queues.reduce((n, q) => n + q.handedOver, 0),
      },
      ...{
        mode: this.mode,
        dropped: nonZero(dropped),
        paths: Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, nonZero(path)])),
      },
    };
    if (result.lost > this.allowed) this.failures.push(`${result.lost} lost`);
    if (result.doubled > 0) this.failures.push(`${result.doubled} doubled`);
    if (this.inOrder && result.reordered > 0) this.failures.push(`${result.reordered} reordered`);
    return { ...result, failures: this.failures, notes: this.notes, news: this.news };
  }
}
