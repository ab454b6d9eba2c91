/**
 * TCP connections in decoded packets: `TCPTracker`, with the events and names of npm's `pcap`. It believes each packet that it is
 * given, and reassembles nothing: data is announced as it comes. Belongs to one thread.
 */
import { EventEmitter } from 'node:events';
import type { PcapPacket } from './decode/decode.ts';
import { IPv4, IPv6 } from './decode/ip.ts';
import { TCP } from './decode/transport.ts';

/** Connections of a tracker: those that have been silent longest are forgotten, without an event. */
const MAX_SESSIONS = 65_536;
/** Segments and acknowledgements of one direction whose times are kept: enough to see a retransmission. */
const MAX_TIMES = 1024;
const IPV6_BYTES = 40;

type Direction = 'send' | 'recv';
type Times = Map<number, number>;

export interface SessionStats {
  /** Seconds between a segment and its acknowledgement, by the sequence number behind it. */
  recv_times: Record<number, number>;
  send_times: Record<number, number>;
  /** How often segments came again. */
  send_retrans: Record<number, number>;
  recv_retrans: Record<number, number>;
  /** Seconds from the first packet to the end of the handshake, and to the end of the connection. */
  connect_duration: number | undefined;
  total_time: number | undefined;
  /** Bytes of IP and TCP headers, of data, and of both. */
  send_overhead: number;
  send_payload: number;
  send_total: number;
  recv_overhead: number;
  recv_payload: number;
  recv_total: number;
}

interface SessionEvents {
  /** The handshake is over. */
  start: [TCPSession];
  'data send': [TCPSession, Buffer];
  'data recv': [TCPSession, Buffer];
  /** A segment that ends at that sequence number came again. */
  retransmit: [TCPSession, Direction, number];
  /** Both sides have ended the connection, or one has reset it. */
  end: [TCPSession];
}

/** One connection. `src` is the side whose packet came first: it sends, the other side receives. */
export class TCPSession extends EventEmitter<SessionEvents> {
  readonly src: string;
  readonly dst: string;
  /** As `src` and `dst`: names are not looked up. */
  readonly src_name: string;
  readonly dst_name: string;
  state: 'SYN_SENT' | 'SYN_RCVD' | 'ESTAB' | 'FIN_WAIT' | 'CLOSING' | 'CLOSED';
  /** Whether the beginning of the connection is not among the packets. */
  readonly missed_syn: boolean;
  /** Seconds since 1970, of packets: the latest, the first, the end of the handshake, the last. */
  current_cap_time: number;
  readonly syn_time: number;
  connect_time: number | undefined;
  close_time: number | undefined;
  send_isn: number | null = null;
  recv_isn: number | null = null;
  send_bytes_ip = 0;
  send_bytes_tcp = 0;
  send_bytes_payload = 0;
  recv_bytes_ip = 0;
  recv_bytes_tcp = 0;
  recv_bytes_payload = 0;
  readonly #packets: Record<Direction, Times> = { send: new Map(), recv: new Map() };
  readonly #acks: Record<Direction, Times> = { send: new Map(), recv: new Map() };
  readonly #retransmitted: Record<Direction, Times> = { send: new Map(), recv: new Map() };
  /** Who has ended first. */
  #ended: Direction | undefined;

  constructor(src: string, dst: string, time: number, { flags, seqno }: TCP) {
    super();
    this.src = src;
    this.dst = dst;
    this.src_name = src;
    this.dst_name = dst;
    this.syn_time = time;
    this.current_cap_time = time;
    this.missed_syn = !flags.syn;
    // A handshake of which only the answer is there: its sender is the other side.
    this.state = this.missed_syn ? 'ESTAB' : flags.ack ? 'SYN_RCVD' : 'SYN_SENT';
    if (this.missed_syn) this.connect_time = time;
    else this.send_isn = seqno;
  }

  /** Takes a packet of the connection. For the tracker. */
  track(direction: Direction, ipBytes: number, tcp: TCP, time: number): void {
    this.current_cap_time = time;
    this[`${direction}_bytes_ip`] += ipBytes;
    this[`${direction}_bytes_tcp`] += tcp.headerLength;
    if (tcp.flags.ack) keep(this.#acks[direction], tcp.ackno, time);
    this.#handshake(direction, tcp, time);
    if (tcp.data !== null) this.#data(direction, tcp.seqno, tcp.data, time);
    if (tcp.flags.rst) this.#close(time);
    else this.#finish(direction, tcp, time);
  }

  #handshake(direction: Direction, { flags, seqno }: TCP, time: number): void {
    if (this.state === 'SYN_SENT' && direction === 'recv' && flags.syn && flags.ack) {
      this.state = 'SYN_RCVD';
      this.recv_isn = seqno;
    } else if (this.state === 'SYN_RCVD' && flags.ack && !flags.syn) {
      this.state = 'ESTAB';
      this.connect_time = time;
      this.emit('start', this);
    }
  }

  #data(direction: Direction, seqno: number, data: Buffer, time: number): void {
    const end = (seqno + data.length) >>> 0;
    this[`${direction}_bytes_payload`] += data.length;
    if (this.#packets[direction].has(end)) {
      const again = this.#retransmitted[direction];
      keep(again, end, (again.get(end) ?? 0) + 1, true);
      keep(this.#packets[direction], end, time, true);
      this.emit('retransmit', this, direction, end);
      return;
    }
    keep(this.#packets[direction], end, time);
    this.emit(`data ${direction}`, this, data);
  }

  #finish(direction: Direction, { flags }: TCP, time: number): void {
    if (flags.fin && this.#ended === undefined) {
      this.#ended = direction;
      this.state = 'FIN_WAIT';
    } else if (flags.fin && direction !== this.#ended) this.state = 'CLOSING';
    else if (this.state === 'CLOSING' && direction === this.#ended && flags.ack) this.#close(time);
  }

  #close(time: number): void {
    this.state = 'CLOSED';
    this.close_time = time;
    this.emit('end', this);
  }

  session_stats(): SessionStats {
    const overhead = (direction: Direction): number =>
      this[`${direction}_bytes_ip`] + this[`${direction}_bytes_tcp`];
    const since = (time: number | undefined) => (time === undefined ? undefined : time - this.syn_time);
    const [sent, received] = [this.send_bytes_payload, this.recv_bytes_payload];
    return {
      recv_times: delays(this.#packets.recv, this.#acks.send),
      send_times: delays(this.#packets.send, this.#acks.recv),
      send_retrans: Object.fromEntries(this.#retransmitted.send),
      recv_retrans: Object.fromEntries(this.#retransmitted.recv),
      connect_duration: since(this.connect_time),
      total_time: since(this.close_time),
      send_overhead: overhead('send'),
      send_payload: sent,
      send_total: overhead('send') + sent,
      recv_overhead: overhead('recv'),
      recv_payload: received,
      recv_total: overhead('recv') + received,
    };
  }
}

/** Adds an entry, and forgets the oldest of too many. */
function keep(times: Times, key: number, value: number, replace = false): void {
  if (times.has(key) && !replace) return;
  times.set(key, value);
  if (times.size > MAX_TIMES) times.delete(times.keys().next().value!);
}

function delays(packets: Times, acks: Times): Record<number, number> {
  const found = [...packets].flatMap(([end, time]) => {
    const acked = acks.get(end);
    return acked === undefined ? [] : [[end, acked - time] as const];
  });
  return Object.fromEntries(found);
}

/** Emits 'session' with each connection when its first packet comes. */
export class TCPTracker extends EventEmitter<{ session: [TCPSession] }> {
  /** The open connections, by 'ADDRESS:PORT-ADDRESS:PORT'. */
  readonly sessions = new Map<string, TCPSession>();

  /** Takes a decoded packet. One that is not TCP over IPv4 or IPv6, or is cut before its TCP header ends, is left out. */
  track_packet(packet: PcapPacket): void {
    const ip = ipOf(packet.payload);
    if (ip === undefined || !(ip.payload instanceof TCP)) return;
    const tcp = ip.payload;
    const [from, to] = [`${ip.saddr}:${tcp.sport}`, `${ip.daddr}:${tcp.dport}`];
    const { tv_sec: seconds, tv_usec: micros } = packet.pcap_header;
    const time = seconds + micros / 1e6;
    const ipBytes = ip instanceof IPv4 ? ip.headerLength : IPV6_BYTES;
    const answering = this.sessions.has(`${to}-${from}`);
    const key = answering ? `${to}-${from}` : `${from}-${to}`;
    const session = this.sessions.get(key) ?? this.#begin(key, new TCPSession(from, to, time, tcp));
    // Those that were silent longest are first.
    this.sessions.delete(key);
    this.sessions.set(key, session);
    session.track(answering ? 'recv' : 'send', ipBytes, tcp, time);
    if (session.state === 'CLOSED') this.sessions.delete(key);
  }

  #begin(key: string, session: TCPSession): TCPSession {
    this.sessions.set(key, session);
    if (this.sessions.size > MAX_SESSIONS) this.sessions.delete(this.sessions.keys().next().value!);
    this.emit('session', session);
    return session;
  }
}

/** The first IP header of a packet. */
function ipOf(layer: unknown): IPv4 | IPv6 | undefined {
  if (layer instanceof IPv4 || layer instanceof IPv6) return layer;
  const inner = (layer as { payload?: unknown } | null)?.payload;
  return inner === undefined || inner === null ? undefined : ipOf(inner);
}
