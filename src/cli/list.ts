/**
 * `twinpath list`: pairs and single network cards, what a port would use of each, and what prevents a port.
 *
 * It only reads, and needs no privilege.
 */
import { cards, discover, type Found, takeSnapshot } from '../coordinator/inventory.ts';
import {
  type DeviceInformation,
  deviceInformation,
  type InformationSources,
} from '../kernel/device-information.ts';
import { type Holder, holderOf } from '../kernel/device-lock.ts';
import { EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import { ARPHRD_ETHER, IFF, type Link } from '../kernel/link.ts';
import { inNamespace } from '../kernel/namespace.ts';
import { NetdevNetlink } from '../kernel/netdev-netlink.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { loadShim } from '../kernel/shim.ts';
import { Sysfs } from '../kernel/sysfs.ts';
import { DEFAULTS } from '../options.ts';
import { type PortCapability, portCapability } from '../paths/capability.ts';
import { type Arguments, text } from './arguments.ts';
import { type Command, type CommandContext, EXIT, EXITS } from './command.ts';
import { capabilityLines, deviceLines } from './list-details.ts';
import { holderName, ioUringIsOff, type MachineFacts, readMachine, TUN_OBSTACLES } from './machine.ts';

/** A pair or a single card, as `--json` prints it. */
interface Row {
  readonly kind: Found['kind'];
  readonly name: string;
  readonly mac: string;
  readonly driver: string;
  readonly queues: number;
  readonly vf: VfRow | null;
  /** The other leg of a net_failover device. */
  readonly standby: string | null;
  /** The driver that a port would use for each path; null if there is no VF now. */
  readonly paths: { readonly synthetic: string; readonly vf: string | null };
  readonly addresses: readonly string[];
  readonly defaultRoute: boolean;
  /** A port takes it by default. */
  readonly free: boolean;
  /** The process whose port has it now; null if none has. */
  readonly holder: Holder | null;
  /** What prevents a port, in sentences without a full stop. */
  readonly obstacles: readonly string[];
  readonly devices: { readonly synthetic: DeviceInformation; readonly vf: DeviceInformation | null };
  /** What both devices can, with the default frame size. */
  readonly capability: PortCapability;
}

/** A pair or a card, and what its devices say of themselves. */
interface Described extends Found {
  readonly holder: Holder | undefined;
  readonly devices: { readonly synthetic: DeviceInformation; readonly vf: DeviceInformation | undefined };
}

interface VfRow {
  readonly name: string;
  readonly driver: string;
  /** PCI address; '' if the kernel does not report it. */
  readonly pci: string;
  readonly queues: number;
  readonly up: boolean;
}

export const list: Command = {
  table: {
    name: 'list',
    summary: 'lists NetVSC and net_failover pairs and other cards, and what prevents a port on them',
    positionals: [],
    options: {
      netns: {
        value: 'NAME',
        help: 'list the devices of this network namespace',
        otherwise: "the process's",
      },
      details: {
        help: 'add the driver, queues, rings, MTU range, offloads and XDP of each device, and what a port on it can do',
      },
    },
    notes: [
      'A device that a port has is shown with the process that holds it, of any user; "twinpath ps" shows more of those of this user.',
      'With --json: an array with one object for each pair and each other card.',
    ],
    examples: [
      ['twinpath list', 'the devices of this machine'],
      ['twinpath list --details', 'what they can do'],
      ['twinpath list --json', 'all of that for programs'],
    ],
    exits: [[EXIT.OK, 'listed, even if the list is empty'], ...EXITS.slice(0, 1)],
  },
  run: runList,
};

async function runList(args: Arguments, { terminal }: CommandContext): Promise<number> {
  const { found, links } = readDevices(text(args, 'netns'));
  const machine = readMachine();
  const rows = found.map((one) => row(one, machine));
  if (args.flags.has('json')) await terminal.printJson(withNulls(rows), 2);
  else {
    const withDetails = args.flags.has('details');
    const texts = rows.map((one) => rowText(one) + (withDetails ? detailsText(one) : ''));
    await terminal.print(rows.length === 0 ? emptyListText(links) : texts.join('\n'));
  }
  return EXIT.OK;
}

function readDevices(netns: string | undefined): { found: Described[]; links: readonly Link[] } {
  const shim = loadShim();
  const inside = (): { found: Described[]; links: readonly Link[] } => {
    const opened: { close(): void }[] = [];
    const opens = <T extends { close(): void }>(socket: T): T => {
      opened.push(socket);
      return socket;
    };
    try {
      const netlink = opens(RtNetlink.open(shim));
      const sources = { ethtool: opens(EthtoolNetlink.open(shim)), netdev: opens(NetdevNetlink.open(shim)) };
      const snapshot = takeSnapshot(netlink, new Sysfs());
      const found = [...discover(snapshot), ...cards(snapshot)];
      const all = found.map((one) => ({
        ...described(one, sources),
        holder: holderOf(netlink, one.netvsc.ifindex),
      }));
      return { found: all, links: snapshot.links };
    } finally {
      for (const socket of opened) socket.close();
    }
  };
  return netns === undefined ? inside() : inNamespace(shim, netns, inside);
}

function described(found: Found, sources: InformationSources): Omit<Described, 'holder'> {
  const synthetic = deviceInformation(sources, found.netvsc);
  // A card alone is its own VF.
  if (found.kind === 'card') return { ...found, devices: { synthetic, vf: synthetic } };
  const vf = found.vf && deviceInformation(sources, found.vf);
  return { ...found, devices: { synthetic, vf } };
}

function row(one: Described, machine: MachineFacts): Row {
  const {
    kind,
    netvsc,
    vf,
    standby,
    driver,
    vfDriver,
    queues,
    vfQueues,
    addresses,
    defaultRoute,
    free,
    holder,
    devices,
  } = one;
  return {
    kind,
    name: netvsc.name,
    mac: netvsc.address,
    driver,
    queues,
    vf: vf
      ? {
          name: vf.name,
          driver: vfDriver,
          queues: vfQueues,
          up: isUp(vf),
          pci: vf.parentBus === 'pci' ? vf.parentDevice : '',
        }
      : null,
    standby: standby?.name ?? null,
    paths: {
      synthetic: `tap (${ioUringIsOff(machine) ? 'read/write: io_uring is switched off' : 'io_uring'})`,
      vf: kind === 'card' ? 'af-xdp, where its driver has native XDP' : vf ? 'af-xdp' : null,
    },
    addresses,
    defaultRoute,
    free: free && holder === undefined,
    holder: holder ?? null,
    obstacles: obstacles(one, machine),
    devices: { synthetic: devices.synthetic, vf: devices.vf ?? null },
    capability: portCapability({ frameSize: DEFAULTS.frameSize, ...devices }),
  };
}

/** What prevents a port, in sentences without a full stop. */
export function obstacles(
  { kind, netvsc, vf, reason, holder }: Described,
  { lacking, tun }: MachineFacts,
): string[] {
  const others = holder === undefined; // the programs on its devices are not of its port
  const found = [
    holder === undefined ? '' : `it is held by ${holderName(holder)}`,
    reason === '' ? '' : `it ${reason}: a port takes it only by name`,
    others && kind === 'card' && netvsc.xdpProgram !== 0
      ? `it carries XDP program ${netvsc.xdpProgram} already`
      : '',
    isUp(netvsc) ? '' : 'it is down',
    vf === undefined || isUp(vf) ? '' : `its VF ${vf.name} is down`,
    vf === undefined || vf.xdpProgram === 0 || !others
      ? ''
      : `its VF ${vf.name} carries XDP program ${vf.xdpProgram} already`,
    TUN_OBSTACLES[tun] ?? '',
    lacking.length === 0 ? '' : `this process lacks ${lacking.join(', ')}`,
  ];
  return found.filter((sentence) => sentence !== '');
}

function rowText({ kind, name, mac, driver, queues, vf, standby, paths, obstacles }: Row): string {
  const lines = [
    `${name}  ${mac}  ${driver}, ${queues} queues: ${kind === 'card' ? `${paths.vf}, with a ` : ''}${paths.synthetic}`,
    standby === null ? '' : `  standby ${standby}`,
    kind === 'card'
      ? ''
      : vf === null
        ? '  no VF now; a port uses it when it appears'
        : `  VF ${vf.name}  ${[vf.driver, vf.pci, `${vf.queues} queues`].filter(Boolean).join(', ')}: ${paths.vf}`,
    ...obstacles.map((obstacle) => `  - ${obstacle}`),
    obstacles.length === 0 ? '  ready' : '',
  ];
  return `${lines.filter((line) => line !== '').join('\n')}\n`;
}

function detailsText({ devices: { synthetic, vf }, capability }: Row): string {
  const lines = [
    ...deviceLines(synthetic),
    ...(vf === null || vf.device === synthetic.device ? [] : deviceLines(vf)),
    ...capabilityLines(capability),
  ];
  return lines.map((line) => `  ${line}\n`).join('');
}

/** What a kernel or a driver does not report is null in JSON, and not left out. */
function withNulls(rows: readonly Row[]): unknown {
  return JSON.parse(JSON.stringify(rows, (_, value) => (value === undefined ? null : value)));
}

/** Says why the list is empty, and names the virtual devices that there are. */
function emptyListText(links: readonly Link[]): string {
  const others = links
    .filter(({ type, flags }) => type === ARPHRD_ETHER && (flags & IFF.LOOPBACK) === 0)
    .map(({ name, kind }) => (kind === '' ? name : `${name} (${kind})`));
  return [
    'No NetVSC: no network device here is on a Hyper-V VMBus.',
    others.length === 0
      ? 'There is no other Ethernet device either.'
      : `Ethernet devices: ${others.join(', ')}.`,
    'A port can use one alone: "twinpath run HANDLER --device NAME". Do not choose the one of your login:',
    'the port takes all packets that its device receives.',
    '"twinpath demo" builds a host with a NetVSC stand-in and a VF from network namespaces.',
  ].join('\n');
}

function isUp({ flags }: Link): boolean {
  return (flags & IFF.UP) !== 0;
}
