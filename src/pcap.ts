/**
 * The calls of npm's `pcap` over ports and capture files: `import pcap from 'twinpath/pcap'`. A program for that package changes
 * its import; docs/from-pcap.md says what is the same, and what is not.
 */
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { decode } from './pcap/decode/decode.ts';
import { createOfflineSession, createSession } from './pcap/session.ts';
import { TCPSession, TCPTracker } from './pcap/tcp-tracker.ts';

export { decode, type PacketWithHeader, PcapPacket } from './pcap/decode/decode.ts';
export {
  type CaptureStats,
  createOfflineSession,
  createSession,
  type LiveSessionOptions,
  type OfflineSessionOptions,
  type PcapSession,
} from './pcap/session.ts';
export { type SessionStats, TCPSession, TCPTracker } from './pcap/tcp-tracker.ts';
export type { CapturedPacket } from './pcapng/captured-packet.ts';
export { CaptureWriter, type CaptureWriterOptions } from './pcapng/file-writer.ts';
export { CaptureReader } from './pcapng/reader.ts';
export type { Interface, PacketRecord, Section } from './pcapng/write.ts';

/** An address of an interface. */
export interface Address {
  addr: string;
  netmask: string;
}

/** An interface of the machine. */
export interface Device {
  name: string;
  addresses: Address[];
  /** 'PCAP_IF_LOOPBACK' of the loopback interface, which no port can take. */
  flags?: string;
}

/** The interfaces of the machine, also those without an address. `twinpath list` says which of them a port can take. */
export function findalldevs(): Device[] {
  const found = networkInterfaces();
  const names = new Set([...Object.keys(found), ...interfaceNames()]);
  return [...names].map((name) => {
    const all = found[name] ?? [];
    const addresses = all.map(({ address, netmask }) => ({ addr: address, netmask }));
    const isLoopback = name === 'lo' || all.some(({ internal }) => internal);
    return isLoopback ? { name, addresses, flags: 'PCAP_IF_LOOPBACK' } : { name, addresses };
  });
}

/** As Linux lists them; elsewhere there are only those with an address. */
function interfaceNames(): string[] {
  try {
    return readdirSync('/sys/class/net');
  } catch {
    return [];
  }
}

export default { createSession, createOfflineSession, decode, findalldevs, TCPSession, TCPTracker };
