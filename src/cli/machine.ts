/** The machine and this process, as far as ports depend on them: read for `twinpath list` and `twinpath doctor`. Changes nothing. */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { join } from 'node:path';
import { lackingCapabilities } from '../capabilities.ts';
import type { Holder } from '../kernel/device-lock.ts';
import { type RuntimeFolder, runtimeFolder } from '../kernel/runtime-folder.ts';
import { DEFAULTS } from '../options.ts';

export interface MachineFacts {
  readonly kernel: string;
  readonly node: string;
  /** Capabilities that a port needs and this process lacks. */
  readonly lacking: readonly string[];
  readonly tun: 'usable' | 'missing' | 'refused';
  /** kernel.io_uring_disabled: 0 allowed, 1 for some, 2 for nobody; undefined before Linux 6.6. */
  readonly ioUringDisabled: number | undefined;
  /** 'none', 'integrity', 'confidentiality'; undefined without it. */
  readonly lockdown: string | undefined;
  /** net.core.bpf_jit_enable; undefined where it cannot be read. */
  readonly bpfJit: number | undefined;
  /** Bytes of memory that may be locked; Infinity without a limit. */
  readonly memlock: number;
  /** Queues of a port that is opened without that option. */
  readonly queues: number;
  readonly runtime: RuntimeFolder;
  /** Network managers that run here and have no file that keeps them off the taps of ports. */
  readonly managers: readonly Manager[];
}

export type Manager = 'NetworkManager' | 'systemd-networkd';

export function readMachine(): MachineFacts {
  return {
    kernel: release(),
    node: process.versions.node,
    lacking: lackingCapabilities(),
    tun: tunState(),
    ioUringDisabled: numberOf('/proc/sys/kernel/io_uring_disabled'),
    lockdown: /\[(\w+)\]/.exec(textOf('/sys/kernel/security/lockdown') ?? '')?.[1],
    bpfJit: numberOf('/proc/sys/net/core/bpf_jit_enable'),
    memlock: lockedBytes(textOf('/proc/self/limits') ?? ''),
    queues: Math.min(availableParallelism(), 8),
    runtime: runtimeFolder(),
    managers: uninstructedManagers(),
  };
}

/** Whether this process gets no io_uring; a seccomp filter may refuse it all the same. */
export const ioUringIsOff = ({ ioUringDisabled, lacking }: MachineFacts): boolean =>
  ioUringDisabled === 2 || (ioUringDisabled === 1 && lacking.length > 0);

/** Whose port has a device. */
export const holderName = ({ pid }: Holder): string =>
  pid === undefined ? 'a port of an unknown process' : `the port of process ${pid}`;

/** What is wrong with /dev/net/tun, as a sentence without a full stop. */
export const TUN_OBSTACLES = {
  usable: undefined,
  missing: '/dev/net/tun is missing',
  refused: 'this user may not open /dev/net/tun',
} as const satisfies Record<MachineFacts['tun'], string | undefined>;

function tunState(): MachineFacts['tun'] {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return 'usable';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'missing' : 'refused';
  }
}

/** Where each manager keeps its state while it runs, and the folders in which it, or udev, is told what to leave alone. */
const MANAGERS = {
  'systemd-networkd': { state: 'run/systemd/netif', folders: ['systemd/network'] },
  NetworkManager: { state: 'run/NetworkManager', folders: ['NetworkManager/conf.d', 'udev/rules.d'] },
} as const satisfies Record<Manager, object>;

/** @param root of the file system */
export function uninstructedManagers(root = '/'): Manager[] {
  const names = Object.keys(MANAGERS) as Manager[];
  return names.filter((name) => {
    const { state, folders } = MANAGERS[name];
    if (!existsSync(join(root, state))) return false;
    const places = folders.flatMap((folder) =>
      ['etc', 'run', 'usr/lib'].map((above) => join(root, above, folder)),
    );
    return !places.some((place) =>
      filesIn(place).some((file) => textOf(join(place, file))?.includes('twinpath')),
    );
  });
}

/** From /proc/self/limits: the soft limit. */
export function lockedBytes(limits: string): number {
  const soft = /^Max locked memory +(\S+)/m.exec(limits)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Bytes that a port of so many queues locks: its frames, without the rings, which are a hundredth of them. */
export const lockedByPort = (queues: number): number => queues * DEFAULTS.frames * DEFAULTS.frameSize;

function numberOf(path: string): number | undefined {
  const text = textOf(path);
  return text === undefined ? undefined : Number(text);
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** The text of a small file; undefined if it cannot be read. */
export function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}
