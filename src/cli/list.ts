/**
 * `twinpath list`: the pairs and the single cards, what a port would use of each, and what stands in its way.
 * Asks the kernel, changes nothing, needs no privilege.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { lackingCapabilities } from '../capabilities.ts';
import { cards, discover, type Found, takeSnapshot } from '../coordinator/inventory.ts';
import { ARPHRD_ETHER, IFF, type Link } from '../kernel/link.ts';
import { inNamespace } from '../kernel/namespace.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { loadShim } from '../kernel/shim.ts';
import { Sysfs } from '../kernel/sysfs.ts';
import { type Arguments, text } from './arguments.ts';
import { type Command, type CommandContext, EXIT, EXITS } from './command.ts';

/** One pair, or one card alone, as `--json` prints it. */
interface Row {
  readonly kind: Found['kind'];
  readonly name: string;
  readonly mac: string;
  readonly driver: string;
  readonly queues: number;
  readonly vf: VfRow | null;
  /** The other leg of a net_failover device. */
  readonly standby: string | null;
  /** What a port would drive each path with; null where there is no VF now. */
  readonly paths: { readonly synthetic: string; readonly vf: string | null };
  readonly addresses: readonly string[];
  readonly defaultRoute: boolean;
  /** A port takes it without its being named. */
  readonly free: boolean;
  /** What stands in the way, in sentences without a full stop. */
  readonly obstacles: readonly string[];
}

interface VfRow {
  readonly name: string;
  readonly driver: string;
  /** PCI address, '' where the kernel does not tell. */
  readonly pci: string;
  readonly queues: number;
  readonly up: boolean;
}

/** What holds for the whole machine. */
interface Machine {
  /** Capabilities that a port needs and this process has not. */
  readonly lacking: readonly string[];
  readonly tun: boolean;
  readonly uring: boolean;
}

export const list: Command = {
  table: {
    name: 'list',
    summary: 'shows NetVSC and net_failover pairs and other cards, and what stands in the way',
    positionals: [],
    options: {
      netns: { value: 'NAME', help: 'look in this network namespace', otherwise: "the process's" },
    },
    notes: [
      'With --json: an array with one object per pair and per other card, [] on a machine without any.',
    ],
    examples: [
      ['twinpath list', 'the devices of this machine'],
      ['twinpath list --json', 'the same for programs'],
    ],
    exits: [[EXIT.OK, 'listed, also when there is nothing to list'], ...EXITS.slice(0, 1)],
  },
  run: runList,
};

async function runList(args: Arguments, { terminal }: CommandContext): Promise<number> {
  const { found, links } = look(text(args, 'netns'));
  const machine: Machine = {
    lacking: lackingCapabilities(),
    tun: exists('/dev/net/tun'),
    uring: firstLine('/proc/sys/kernel/io_uring_disabled') !== '2',
  };
  const rows = found.map((one) => row(one, machine));
  if (args.flags.has('json')) await terminal.printJson(rows, 2);
  else await terminal.print(rows.length === 0 ? nothing(links) : rows.map(paragraph).join('\n'));
  return EXIT.OK;
}

function look(netns: string | undefined): { found: Found[]; links: readonly Link[] } {
  const shim = loadShim();
  const inside = (): { found: Found[]; links: readonly Link[] } => {
    const netlink = RtNetlink.open(shim);
    try {
      const snapshot = takeSnapshot(netlink, new Sysfs());
      return { found: [...discover(snapshot), ...cards(snapshot)], links: snapshot.links };
    } finally {
      netlink.close();
    }
  };
  return netns === undefined ? inside() : inNamespace(shim, netns, inside);
}

function row(one: Found, machine: Machine): Row {
  const { kind, netvsc, vf, standby, driver, vfDriver, queues, vfQueues, addresses, defaultRoute, free } =
    one;
  return {
    ...{ kind, name: netvsc.name, mac: netvsc.address, driver, queues },
    vf: vf
      ? {
          ...{ name: vf.name, driver: vfDriver, queues: vfQueues, up: isUp(vf) },
          pci: vf.parentBus === 'pci' ? vf.parentDevice : '',
        }
      : null,
    standby: standby?.name ?? null,
    paths: {
      synthetic: `tap (${machine.uring ? 'io_uring' : 'read/write: io_uring is switched off'})`,
      vf: kind === 'card' ? 'af-xdp, where its driver has native XDP' : vf ? 'af-xdp' : null,
    },
    ...{ addresses, defaultRoute, free, obstacles: obstacles(one, machine) },
  };
}

function obstacles({ kind, netvsc, vf, reason }: Found, { lacking, tun }: Machine): string[] {
  const found = [
    reason === '' ? '' : `it ${reason}: taken only when it is named`,
    kind === 'card' && netvsc.xdpProgram !== 0 ? `it carries XDP program ${netvsc.xdpProgram} already` : '',
    isUp(netvsc) ? '' : 'it is down',
    vf === undefined || isUp(vf) ? '' : `its VF ${vf.name} is down`,
    vf === undefined || vf.xdpProgram === 0
      ? ''
      : `its VF ${vf.name} carries XDP program ${vf.xdpProgram} already`,
    tun ? '' : '/dev/net/tun is missing: load the module tun',
    lacking.length === 0 ? '' : `this process lacks ${lacking.join(', ')}`,
  ];
  return found.filter((sentence) => sentence !== '');
}

function paragraph({ kind, name, mac, driver, queues, vf, standby, paths, obstacles }: Row): string {
  const lines = [
    `${name}  ${mac}  ${driver}, ${queues} queues: ${kind === 'card' ? `${paths.vf}, beside a ` : ''}${paths.synthetic}`,
    standby === null ? '' : `  standby ${standby}`,
    kind === 'card'
      ? ''
      : vf === null
        ? '  no VF now; it is used when it comes'
        : `  VF ${vf.name}  ${[vf.driver, vf.pci, `${vf.queues} queues`].filter(Boolean).join(', ')}: ${paths.vf}`,
    ...obstacles.map((obstacle) => `  - ${obstacle}`),
    obstacles.length === 0 ? '  ready' : '',
  ];
  return `${lines.filter((line) => line !== '').join('\n')}\n`;
}

/** Why the list is empty, and what there is instead: devices that are no hardware. */
function nothing(links: readonly Link[]): string {
  const others = links
    .filter(({ type, flags }) => type === ARPHRD_ETHER && (flags & IFF.LOOPBACK) === 0)
    .map(({ name, kind }) => (kind === '' ? name : `${name} (${kind})`));
  return [
    'No NetVSC: no network device here hangs from a Hyper-V VMBus.',
    others.length === 0
      ? 'There is no other Ethernet device either.'
      : `Ethernet devices: ${others.join(', ')}.`,
    'A spare one can be taken alone: "twinpath run HANDLER --device NAME". Not the one you are logged in by:',
    'a port takes all that its device receives.',
    '"twinpath demo" builds a host with a NetVSC stand-in and a VF out of network namespaces.',
  ].join('\n');
}

function isUp({ flags }: Link): boolean {
  return (flags & IFF.UP) !== 0;
}

function exists(path: string): boolean {
  try {
    accessSync(path, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}

function firstLine(path: string): string | undefined {
  try {
    return readFileSync(path, 'ascii').split('\n')[0];
  } catch {
    return undefined;
  }
}
