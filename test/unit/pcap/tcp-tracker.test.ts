/** Connections, packet by packet. */
import { describe, expect, it } from 'vitest';
import { headerOf } from '../../../src/pcap/decode/decode.ts';
import pcap, { type TCPSession } from '../../../src/pcap.ts';
import { arp, be16, ethernet, ipv4, ipv6, OUR_IP, PEER_IP } from '../../support/frames.ts';

const [FIN, SYN, RST, PSH, ACK] = [1, 2, 4, 8, 16];

interface Segment {
  readonly from: 'client' | 'server';
  readonly flags: number;
  readonly seq: number;
  readonly ack?: number;
  readonly data?: string;
}

const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];

function frameOf({ from, flags, seq, ack = 0, data = '' }: Segment, six = false): number[] {
  const ports = from === 'client' ? [1234, 80] : [80, 1234];
  const tcp = [
    ...ports.flatMap(be16),
    ...be32(seq),
    ...be32(ack),
    0x50,
    flags,
    0,
    100,
    0,
    0,
    0,
    0,
    ...Buffer.from(data),
  ];
  if (six) return ethernet(ipv6(tcp, { next: 6 }), { type: 0x86dd });
  const [src, dst] = from === 'client' ? [PEER_IP, OUR_IP] : [OUR_IP, PEER_IP];
  return ethernet(ipv4(tcp, { protocol: 6, src, dst }));
}

/** What a tracker and its sessions tell of these segments, one a second. */
function track(segments: readonly Segment[], tracker = new pcap.TCPTracker()) {
  const told: unknown[] = [];
  let session: TCPSession | undefined;
  tracker.on('session', (one) => {
    session = one;
    told.push(`session ${one.src_name} ${one.dst_name}`);
    one.on('start', () => told.push('start'));
    one.on('data send', (_, data) => told.push(`send ${data}`));
    one.on('data recv', (_, data) => told.push(`recv ${data}`));
    one.on('retransmit', (_, direction, end) => told.push(`again ${direction} ${end}`));
    one.on('end', () => told.push('end'));
  });
  segments.forEach((segment, second) => {
    const buf = Buffer.from(frameOf(segment));
    const header = headerOf(BigInt(second) * 1_000_000_000n, buf.length, buf.length);
    tracker.track_packet(pcap.decode.packet({ buf, header, link_type: 'LINKTYPE_ETHERNET' }));
    told.push(session?.state);
  });
  return { told: told.join(', '), session: session!, tracker };
}

const OPENING: Segment[] = [
  { from: 'client', flags: SYN, seq: 100 },
  { from: 'server', flags: SYN | ACK, seq: 500, ack: 101 },
  { from: 'client', flags: ACK, seq: 101, ack: 501 },
];
const OPENED = 'session 10.77.0.1:1234 10.77.0.2:80, SYN_SENT, SYN_RCVD, start, ESTAB';

describe('TCPTracker', () => {
  it('follows a connection from its handshake to its end', () => {
    const { told, session, tracker } = track([
      ...OPENING,
      { from: 'client', flags: ACK | PSH, seq: 101, ack: 501, data: 'hello' },
      { from: 'server', flags: ACK, seq: 501, ack: 106 },
      { from: 'server', flags: ACK | PSH, seq: 501, ack: 106, data: 'world!!' },
      { from: 'client', flags: ACK, seq: 106, ack: 508 },
      { from: 'client', flags: FIN | ACK, seq: 106, ack: 508 },
      { from: 'server', flags: ACK, seq: 508, ack: 107 },
      { from: 'server', flags: FIN | ACK, seq: 508, ack: 107 },
      { from: 'client', flags: ACK, seq: 107, ack: 509 },
    ]);
    expect(told).toBe(
      `${OPENED}, send hello, ESTAB, ESTAB, recv world!!, ESTAB, ESTAB, FIN_WAIT, FIN_WAIT, CLOSING, end, CLOSED`,
    );
    expect(session).toMatchObject({
      missed_syn: false,
      send_isn: 100,
      recv_isn: 500,
      syn_time: 0,
      close_time: 10,
    });
    expect(session.session_stats()).toEqual({
      ...{ recv_times: { 508: 1 }, send_times: { 106: 1 }, send_retrans: {}, recv_retrans: {} },
      ...{ connect_duration: 2, total_time: 10 },
      ...{ send_overhead: 240, send_payload: 5, send_total: 245 },
      ...{ recv_overhead: 200, recv_payload: 7, recv_total: 207 },
    });
    expect(tracker.sessions.size).toBe(0);
  });

  it('sees what is sent again, and a reset', () => {
    const hello: Segment = { from: 'client', flags: ACK | PSH, seq: 101, ack: 501, data: 'hello' };
    const { told, session } = track([...OPENING, hello, hello, { from: 'server', flags: RST, seq: 501 }]);
    expect(told).toBe(`${OPENED}, send hello, ESTAB, again send 106, ESTAB, end, CLOSED`);
    expect(session.session_stats()).toMatchObject({ send_retrans: { 106: 1 }, send_payload: 10 });
  });

  it('joins a connection in the middle', () => {
    const { told, session } = track([
      { from: 'server', flags: ACK | PSH, seq: 1, ack: 1, data: 'a' },
      { from: 'client', flags: ACK | PSH, seq: 1, ack: 2, data: 'b' },
    ]);
    expect(told).toBe('session 10.77.0.2:80 10.77.0.1:1234, send a, ESTAB, recv b, ESTAB');
    expect(session.missed_syn).toBe(true);
  });

  it('takes IPv6, and leaves out what is not TCP or is cut', () => {
    const tracker = new pcap.TCPTracker();
    const sessions: string[] = [];
    tracker.on('session', ({ src }) => sessions.push(src));
    const give = (frame: readonly number[]): void => {
      const buf = Buffer.from(frame);
      const header = headerOf(0n, buf.length, buf.length);
      tracker.track_packet(pcap.decode.packet({ buf, header, link_type: 'LINKTYPE_ETHERNET' }));
    };
    give(ethernet(arp(), { type: 0x0806 }));
    for (const six of [false, true]) {
      const frame = frameOf(OPENING[0]!, six);
      for (let cut = 0; cut < frame.length; cut++) give(frame.slice(0, cut));
      expect(sessions).toHaveLength(six ? 1 : 0);
      give(frame);
    }
    expect(sessions).toEqual(['10.77.0.1:1234', '2001:0db8:0000:0000:0000:0000:0000:0001:1234']);
  });
});
