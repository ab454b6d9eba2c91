/** Sessions of `twinpath/pcap` over a port. What they see of a machine's own traffic is in examples.test.ts. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import pcap, { type LiveSessionOptions, type PacketWithHeader } from '../../dist/src/pcap.js';
import { classicFile } from '../support/capture-files.ts';
import { ethernet, icmpEcho, ipv4, udp } from '../support/frames.ts';
import { until } from '../support/harness.ts';
import { temporary } from '../support/process.ts';

const UDP = ethernet(ipv4(udp(Array(100).fill(7)), { protocol: 17 }));
const PING = ethernet(ipv4(icmpEcho([])));

function sessionOver(frames: readonly number[][], options: LiveSessionOptions = {}) {
  const file = join(temporary(), 'in.pcap');
  writeFileSync(file, Uint8Array.from(classicFile(frames.map((data) => ({ data })))));
  const session = pcap.createSession('', { ...options, port: { network: { pcap: file }, ...options.port } });
  onTestFinished(() => session.close());
  const packets: PacketWithHeader[] = [];
  const errors: Error[] = [];
  session.on('packet', (packet) => packets.push(packet));
  session.on('error', (error) => errors.push(error));
  return { session, packets, errors };
}

describe('a session', { tags: 'unprivileged' }, () => {
  it('emits the packets that its filter takes, in order and as long as asked, with their times', async () => {
    const frames = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? PING.with(-1, i & 255) : UDP));
    const { session, packets, errors } = sessionOver(frames, { filter: 'icmp', snap_length: 40 });
    expect(session.stats()).toEqual({ ps_recv: 0, ps_ifdrop: 0, ps_drop: 0 }); // not open yet
    await until('all came by', () => session.stats().ps_recv === 300 && packets.length === 100);
    expect(errors).toEqual([]);
    const decoded = packets.map((packet) => pcap.decode.packet(packet));
    const now = Date.now() / 1000;
    for (const [i, { buf, header, link_type: link }] of packets.entries()) {
      expect([buf.length, header.readUInt32LE(8), header.readUInt32LE(12)]).toEqual([40, 40, PING.length]);
      expect(link).toBe('LINKTYPE_ETHERNET');
      expect(Math.abs(decoded[i]!.pcap_header.tv_sec - now)).toBeLessThan(3600);
    }
    await session.close();
    expect(session.stats()).toEqual({ ps_recv: 300, ps_ifdrop: 0, ps_drop: 0 });
  });

  it('emits nothing after it is closed by a listener, and closes before it is open too', async () => {
    const { session, packets } = sessionOver(Array(200).fill(UDP));
    await new Promise<void>((resolve) => session.once('packet', () => resolve(session.close())));
    expect(packets.length).toBeLessThanOrEqual(1);
    const early = sessionOver([UDP]);
    await early.session.close();
    await early.session.close();
    expect([early.packets, early.errors]).toEqual([[], []]);
    expect(() => session.inject(Buffer.from(UDP))).toThrow(/sends nothing/);
  });

  it('reports as an event why it cannot be opened', async () => {
    const { errors } = sessionOver([UDP], { port: { network: { pcap: '/nowhere/in.pcap' } } });
    await until('an error', () => errors.length > 0);
    expect(errors).toMatchObject([{ code: 'ERR_CAPTURE_FILE' }]);
  });
});
