/**
 * What a port can do: what both of its paths can, with the reason for each thing that it cannot. Pure functions over the
 * descriptions of its devices; any thread.
 */
import type { DeviceInformation, RxMetadata } from '../kernel/device-information.ts';
import { hasChains, JUMBO_FRAME } from '../memory/chains.ts';
import { maxMtu, maxMtuWhileOpen } from '../net/packet-size.ts';
import type { PathDescription } from './device.ts';
import { NO_CHAINS, usedFrame } from './packet-limit.ts';

export interface CapabilityOptions {
  readonly frameSize: number;
  readonly synthetic: DeviceInformation;
  /** `undefined` while there is no VF. */
  readonly vf: DeviceInformation | undefined;
  /** The VF's path, while it is open. It runs in the best mode that its device accepts. */
  readonly path?: PathDescription | undefined;
}

export interface Ability {
  /** `undefined`: not known before the path has been open. */
  readonly has: boolean | undefined;
  /** Why not, or why that is not known, in words. Absent if the port has it. */
  readonly reason?: string;
}

export interface PortCapability {
  /** The MTUs that both devices take and whose packets fit a frame. `reason`: what limits the largest one. */
  readonly mtu: { readonly min: number; readonly max: number; readonly reason: string };
  /** The VF runs the port's XDP program in its driver. */
  readonly nativeXdp: Ability;
  /** The VF's packets are not copied. */
  readonly zeroCopy: Ability;
  /** Packets longer than one buffer of the VF: jumbo frames. */
  readonly multiBuffer: Ability;
  /** A handler sees VLAN tags on both paths. */
  readonly vlanTags: Ability;
  /** The VF delivers each flow to the queue that the port's table names. */
  readonly deviceRss: Ability;
  /** A handler learns when the VF received a packet, by the VF's clock: metadata 'time'. */
  readonly rxTimestamp: Ability;
  /** A handler learns the VF's hash of a packet: metadata 'hash'. */
  readonly rxHash: Ability;
  /** A handler learns whether a received checksum was right, on both paths: metadata 'checksum'. */
  readonly rxChecksum: Ability;
  /** The NIC computes the checksums of packets that a handler sends. */
  readonly txChecksum: Ability;
  /** The NIC cuts long segments that a handler sends. */
  readonly tso: Ability;
  /** The NIC inserts the VLAN tags of packets that a handler sends. */
  readonly txVlan: Ability;
}

/** IPv4's smallest MTU (RFC 791), which is also the kernel's for Ethernet (ETH_MIN_MTU). */
const MIN_MTU = 68;
const NO_VF = 'there is no VF now';

export function portCapability(options: CapabilityOptions): PortCapability {
  return {
    mtu: mtuRange(options),
    nativeXdp: nativeXdp(options),
    zeroCopy: zeroCopy(options),
    multiBuffer: multiBuffer(options),
    vlanTags: vlanTags(options),
    deviceRss: deviceRss(options),
    rxTimestamp: rxMetadata(options, 'timestamp', 'time'),
    rxHash: rxMetadata(options, 'hash', 'hash'),
    rxChecksum: rxChecksum(options),
    txChecksum: never('the port computes them in software, on both paths: metadata offload'),
    tso: never(
      'the port cuts segments in software, on both paths, and a packet fits one frame: metadata offload',
    ),
    txVlan: never('the port inserts them in software, on both paths: metadata tag'),
  };
}

function rxMetadata({ vf, path }: CapabilityOptions, ability: RxMetadata, name: 'time' | 'hash'): Ability {
  if (vf === undefined) return never(NO_VF);
  const lacking = path?.lacks?.[name];
  if (lacking !== undefined) return never(lacking);
  if (vf.xdp === undefined) return unknown(vf);
  if (vf.xdp.rxMetadata.includes(ability)) return { has: true };
  return never(`the driver of ${vf.device} reports none (Linux 6.8 and later do)`);
}

/** XDP has no function for it: only the synthetic path gives it. */
function rxChecksum({ synthetic, vf }: CapabilityOptions): Ability {
  const { on } = synthetic.offloads.rxChecksum ?? { on: false };
  if (!on) return never(`${synthetic.device} does not verify checksums`);
  if (vf !== undefined) return never(`XDP does not say whether ${vf.device} has verified it`);
  return { has: true };
}

function mtuRange({ frameSize, synthetic, vf, path }: CapabilityOptions): PortCapability['mtu'] {
  const devices = vf === undefined ? [synthetic] : [synthetic, vf];
  const limits = devices.map(({ device, mtu }) => ({
    max: mtu.max ?? Number.POSITIVE_INFINITY,
    reason: `${device} takes no larger one`,
  }));
  limits.push({
    max: maxMtuWhileOpen(frameSize),
    reason: `a frame of ${frameSize} bytes serves no larger one`,
  });
  if (path?.multiBuffer === false)
    limits.push({ max: maxMtu(usedFrame(frameSize, false)), reason: NO_CHAINS });
  const { max, reason } = limits.reduce((least, limit) => (limit.max < least.max ? limit : least));
  return { min: Math.max(MIN_MTU, ...devices.map(({ mtu }) => mtu.min)), max, reason };
}

function nativeXdp({ vf, path }: CapabilityOptions): Ability {
  if (vf === undefined) return never(NO_VF);
  if (path?.mode.startsWith('native')) return { has: true };
  if (path?.generic !== undefined) return never(path.generic.replace(/\.$/, ''));
  if (vf.xdp === undefined) return unknown(vf);
  if (!vf.xdp.native) return never(`the driver of ${vf.device} runs no XDP program`);
  return path === undefined ? { has: true } : never(`${vf.device} runs in the mode ${path.mode}`);
}

function multiBuffer({ frameSize, vf, path }: CapabilityOptions): Ability {
  if (!hasChains(frameSize))
    return never(
      `a packet must fit one frame of ${frameSize} bytes: open the port with frameSize: ${JUMBO_FRAME}`,
    );
  if (vf === undefined) return never(NO_VF);
  if (path?.multiBuffer === undefined) return { has: undefined, reason: 'known when the VF has been opened' };
  return path.multiBuffer ? { has: true } : never(NO_CHAINS);
}

function zeroCopy(options: CapabilityOptions): Ability {
  const { vf, path } = options;
  const native = nativeXdp(options);
  if (vf === undefined || native.has === false) return native;
  if (path?.mode.includes('zero-copy')) return { has: true };
  if (vf.xdp?.zeroCopy === false) return never(`the driver of ${vf.device} has no zero-copy for AF_XDP`);
  if (path !== undefined) return never(`${vf.device} refused zero-copy and runs in the mode ${path.mode}`);
  return vf.xdp === undefined ? unknown(vf) : { has: true };
}

function vlanTags({ vf, path }: CapabilityOptions): Ability {
  const lost = `${vf?.device} strips them, and its driver does not let that be switched off`;
  if (path?.vlanTags === 'lost') return never(lost);
  if (path !== undefined) return { has: true };
  const { on, fixed } = vf?.offloads.rxVlan ?? { on: false, fixed: false };
  return on && fixed ? never(lost) : { has: true };
}

function deviceRss({ vf, path }: CapabilityOptions): Ability {
  if (vf === undefined) return never(NO_VF);
  if (path === undefined) return { has: undefined, reason: 'known when the port has set it' };
  if (path.rss === 'device') return { has: true };
  return never(
    path.rss === undefined
      ? 'the port has one queue, or was told what spreads its flows'
      : `${vf.device} does not report that it spreads flows as the port does: workers hand packets over`,
  );
}

const never = (reason: string): Ability => ({ has: false, reason });

const unknown = ({ device }: DeviceInformation): Ability => ({
  has: undefined,
  reason: `this kernel does not report the XDP features of ${device} (Linux 6.3 does)`,
});
