/** A network that is a capture file: its options, checked. Pure. */
import { fileURLToPath } from 'node:url';
import { normalizeMac } from './net/mac.ts';
import type { PcapNetwork } from './options.ts';
import { invalid, nonEmptyText, onlyKnown, wholeNumber } from './validation.ts';

/** The options as the replay's thread takes them. Plain data. */
export interface ReplaySettings {
  readonly file: string;
  /** undefined: what the port sends is counted, and not written. */
  readonly out: string | undefined;
  /** How many times as fast as recorded; 0: as fast as the port takes the packets. */
  readonly speed: number;
  readonly times: number;
  /** Address of the port. undefined: that of a port in memory. */
  readonly mac: string | undefined;
}

const NAMES = ['pcap', 'out', 'speed', 'times', 'mac'] as const;
const MAX_SPEED = 1_000_000;
const MAX_TIMES = 1_000_000_000;

/** @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
export function replaySettings(network: PcapNetwork): ReplaySettings {
  onlyKnown(network, NAMES, `A network of a file has ${NAMES.join(', ')}.`);
  const { pcap, out, speed = 'full', times = 1, mac } = network;
  return {
    file: pathOf('network.pcap', pcap),
    out: out === undefined ? undefined : pathOf('network.out', out),
    speed: speed === 'full' ? 0 : factor(speed),
    times: wholeNumber('network.times', times, 1, MAX_TIMES),
    mac: mac === undefined ? undefined : macAddress(mac),
  };
}

function pathOf(option: string, given: unknown): string {
  if (!(given instanceof URL)) return nonEmptyText(option, given);
  return given.protocol === 'file:'
    ? fileURLToPath(given)
    : invalid(option, 'it must be a path or a file URL');
}

function factor(speed: unknown): number {
  if (typeof speed === 'number' && speed > 0 && speed <= MAX_SPEED) return speed;
  return invalid(
    'network.speed',
    `it must be 'full' or a number above 0, at most ${MAX_SPEED}, not ${String(speed)}`,
    '1 is the speed of the recording.',
  );
}

function macAddress(given: unknown): string {
  const mac = typeof given === 'string' ? normalizeMac(given) : undefined;
  if (mac === undefined) return invalid('network.mac', `${String(given)} is not a MAC address`);
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1)
    return invalid('network.mac', `${mac} is the address of a group`);
  return mac;
}
