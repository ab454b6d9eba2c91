/** `twinpath list --details`: what each device is and can do, and what a port on it could do, as text. Pure. */
import type { DeviceInformation, Offload } from '../kernel/device-information.ts';
import type { Ability, PortCapability } from '../paths/capability.ts';

/** What a port needs its abilities for, in the order in which they are listed. */
const ABILITIES = {
  nativeXdp: 'native XDP',
  zeroCopy: 'zero-copy',
  multiBuffer: 'packets longer than a buffer of the VF',
  vlanTags: 'VLAN tags',
  deviceRss: 'flows spread by the device',
  rxTimestamp: 'receive time stamps of the device',
  rxHash: "the device's hash",
  rxChecksum: 'receive checksum offload',
  txChecksum: 'transmit checksum offload',
  tso: 'TCP segmentation offload',
  txVlan: 'VLAN insertion offload',
} as const satisfies Record<Exclude<keyof PortCapability, 'mtu'>, string>;

/** Lines without a line feed. */
export function deviceLines(device: DeviceInformation): string[] {
  const { driver, bus, busAddress, firmware, queues, rings, mtu, link, offloads, xdp } = device;
  const place = [bus, busAddress].filter(Boolean).join(' ');
  const on = named(offloads, (offload) => offload.on);
  const off = named(offloads, (offload) => !offload.on && !offload.fixed);
  return [
    `${device.device}: ${[driver || 'no driver reported', place, firmware && `firmware ${firmware}`].filter(Boolean).join(', ')}`,
    `  queues: ${queues.rx} of ${queues.maxRx} receive, ${queues.tx} of ${queues.maxTx} transmit`,
    rings === undefined
      ? ''
      : `  rings: ${rings.rx} of ${rings.maxRx} receive, ${rings.tx} of ${rings.maxTx} transmit descriptors`,
    `  MTU: ${mtu.current}, from ${mtu.min}${mtu.max === undefined ? '' : ` to ${mtu.max}`}`,
    `  link: ${linkText(link)}`,
    `  offloads on: ${on || 'none'}${off === '' ? '' : `; off: ${off}`}`,
    xdp === undefined ? '' : `  XDP: ${xdpText(xdp)}`,
  ].filter((line) => line !== '');
}

/** The same for what both paths of a port can do. */
export function capabilityLines({ mtu, ...abilities }: PortCapability): string[] {
  const rows = Object.entries(ABILITIES) as [keyof typeof ABILITIES, string][];
  return [
    'a port on it:',
    `  MTU: ${mtu.min} to ${mtu.max} (${mtu.reason})`,
    ...rows.map(([name, text]) => `  ${text}: ${abilityText(abilities[name])}`),
  ];
}

function linkText({ up, speedMbps, duplex }: DeviceInformation['link']): string {
  if (!up) return 'down';
  return ['up', speedMbps && `${speedMbps} Mbit/s`, duplex && `${duplex} duplex`].filter(Boolean).join(', ');
}

function xdpText({ native, zeroCopy, multiBuffer }: NonNullable<DeviceInformation['xdp']>): string {
  if (!native) return 'none in the driver';
  return ['native', zeroCopy && 'zero-copy', multiBuffer && 'multi-buffer'].filter(Boolean).join(', ');
}

function abilityText({ has, reason }: Ability): string {
  const answer = has === undefined ? 'not known' : has ? 'yes' : 'no';
  return reason === undefined ? answer : `${answer}: ${reason}`;
}

function named(offloads: DeviceInformation['offloads'], chosen: (offload: Offload) => boolean): string {
  const names = Object.entries(offloads).filter(([, offload]) => chosen(offload));
  return names.map(([name]) => name).join(', ');
}
