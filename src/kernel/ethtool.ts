/**
 * The ethtool ioctl, and two things that only it tells on every kernel: a device's channels and its driver.
 *
 * Each call opens a socket of its own in the thread's network namespace and takes RTNL, which may be
 * held for seconds while a VF comes or goes. Setting channels resets the device: on mlx5 all of its
 * queues stop for some tens of milliseconds. Formats: include/uapi/linux/ethtool.h.
 */
import { check } from '../errors.ts';
import { addressOf, type Shim } from './shim.ts';

export interface Channels {
  readonly combined: number;
  readonly rx: number;
  readonly tx: number;
  readonly maxCombined: number;
  readonly maxRx: number;
  readonly maxTx: number;
}

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GDRVINFO = 0x3;
const ETHTOOL_GCHANNELS = 0x3c;
const ETHTOOL_SCHANNELS = 0x3d;

/** struct ifreq: 16 bytes of name, then a pointer in a 24-byte union. */
const IFREQ = 40;
const IFNAMSIZ = 16;

/** struct ethtool_channels: u32 each. */
const CHANNELS = 36;
const Channel = { maxRx: 4, maxTx: 8, maxCombined: 16, rx: 20, tx: 24, combined: 32 } as const;

/** struct ethtool_drvinfo: command, then names of 32 bytes. */
const DRVINFO = 196;
const DRIVER = 4;
const DRIVER_END = 36;

/** `undefined` when the device is gone or has no channels to speak of. */
export function channels(shim: Shim, name: string): Channels | undefined {
  const view = readChannels(shim, name);
  if (typeof view === 'number') return undefined;
  const word = (at: number): number => view.getUint32(at, true);
  return {
    combined: word(Channel.combined),
    rx: word(Channel.rx),
    tx: word(Channel.tx),
    maxCombined: word(Channel.maxCombined),
    maxRx: word(Channel.maxRx),
    maxTx: word(Channel.maxTx),
  };
}

/** Changes the counts that are given. 0 or a negative errno: EINVAL above the maximum, EOPNOTSUPP … */
export function setChannels(
  shim: Shim,
  name: string,
  change: { combined?: number; rx?: number; tx?: number },
): number {
  const view = readChannels(shim, name);
  if (typeof view === 'number') return view;
  for (const key of ['combined', 'rx', 'tx'] as const) {
    const count = change[key];
    if (count !== undefined) view.setUint32(Channel[key], count, true);
  }
  view.setUint32(0, ETHTOOL_SCHANNELS, true);
  return ethtool(shim, name, view);
}

/** 'hv_netvsc', 'mlx5_core', 'mana', 'veth' …; '' when the device does not say. */
export function driver(shim: Shim, name: string): string {
  const view = new DataView(new ArrayBuffer(DRVINFO));
  view.setUint32(0, ETHTOOL_GDRVINFO, true);
  if (ethtool(shim, name, view) < 0) return '';
  const bytes = new Uint8Array(view.buffer, DRIVER, DRIVER_END - DRIVER);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function readChannels(shim: Shim, name: string): DataView | number {
  const view = new DataView(new ArrayBuffer(CHANNELS));
  view.setUint32(0, ETHTOOL_GCHANNELS, true);
  const result = ethtool(shim, name, view);
  return result < 0 ? result : view;
}

/** One request, which the kernel also answers in: 0 or more, or a negative errno. Its first word is the command. */
export function ethtool(shim: Shim, name: string, request: DataView): number {
  const ifreq = new DataView(new ArrayBuffer(IFREQ));
  const bytes = new TextEncoder().encode(name);
  new Uint8Array(ifreq.buffer, 0, IFNAMSIZ - 1).set(bytes.subarray(0, IFNAMSIZ - 1));
  ifreq.setBigUint64(IFNAMSIZ, BigInt(addressOf(request)), true); // `request` is this call's parameter: alive
  const fd = check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)', { device: name });
  try {
    return shim.ioctl(fd, SIOCETHTOOL, ifreq);
  } finally {
    shim.close(fd);
  }
}
