/**
 * A netlink socket: `open` makes one for requests and dumps, `listen` one for multicast groups.
 *
 * A socket belongs to one thread, and to the network namespace that the thread was in when it was opened. Requests are
 * synchronous. Requests that change a device take RTNL, which the kernel may hold for seconds while a VF comes or goes:
 * never make them on the application thread.
 */
import { check, Errno, type ErrorDetails, TwinpathError } from '../errors.ts';
import {
  type Acknowledgement,
  type Message,
  MessageBuilder,
  NLM_F,
  NLMSG,
  parseAcknowledgement,
  parseMessages,
} from './netlink.ts';
import type { Shim } from './shim.ts';

/** Netlink protocols: include/uapi/linux/netlink.h. */
export const NETLINK = { ROUTE: 0, KOBJECT_UEVENT: 15, GENERIC: 16 } as const;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_PEEK = 0x02;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

/**
 * The kernel builds dump datagrams of at most 32 KiB, unless one message needs more: a link with hundreds of alternative
 * names or virtual functions does. The buffer grows if needed.
 */
const RECEIVE_BYTES = 64 * 1024;
/** The answer is in the socket before send() returns; this is a limit for a faulty kernel. */
const REPLY_SECONDS = 10;
/** The last attempt is accepted even if the kernel calls its dump inconsistent. */
const DUMP_ATTEMPTS = 20;

/** Most datagrams of a failed exchange that are discarded: a dump of ten thousand links has fewer. */
const DRAINED_DATAGRAMS = 10_000;

export interface Answer extends Acknowledgement {
  readonly replies: Message[];
}

/** Names the request in an error's text. */
export interface Subject extends ErrorDetails {
  /** The message type: RTM_SETLINK, ETHTOOL_MSG_RSS_SET … */
  readonly syscall: string;
}

export class NetlinkSocket {
  readonly fd: number;
  /** Holds the next request. */
  readonly builder = new MessageBuilder();
  readonly #shim: Shim;
  #buffer = new Uint8Array(RECEIVE_BYTES);
  #sequence = 0;
  /** The last exchange failed. The kernel continues a dump until it is read, and refuses another (EBUSY). */
  #unfinished = false;
  #closed = false;

  private constructor(shim: Shim, fd: number) {
    this.#shim = shim;
    this.fd = fd;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim, protocol: number): NetlinkSocket {
    const socket = NetlinkSocket.#bound(shim, protocol, 0);
    const one = new Uint32Array([1]);
    // A kernel may refuse both. Errors then come without the kernel's text, or repeat the request.
    shim.setsockopt(socket.fd, SOL_NETLINK, NETLINK_EXT_ACK, one, 4);
    shim.setsockopt(socket.fd, SOL_NETLINK, NETLINK_CAP_ACK, one, 4);
    const timeout = new Uint32Array([REPLY_SECONDS, 0, 0, 0]); // struct timeval: two 64-bit words
    check(shim.setsockopt(socket.fd, SOL_SOCKET, SO_RCVTIMEO, timeout, 16), 'setsockopt(SO_RCVTIMEO)');
    return socket;
  }

  /**
   * Listens to multicast groups (a bit mask). The buffer may exceed net.core.rmem_max if this thread has CAP_NET_ADMIN;
   * otherwise that is the limit.
   */
  static listen(shim: Shim, protocol: number, groups: number, bufferBytes: number): NetlinkSocket {
    const socket = NetlinkSocket.#bound(shim, protocol, groups);
    const size = new Uint32Array([bufferBytes]);
    if (shim.setsockopt(socket.fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) < 0) {
      shim.setsockopt(socket.fd, SOL_SOCKET, SO_RCVBUF, size, 4);
    }
    return socket;
  }

  static #bound(shim: Shim, protocol: number, groups: number): NetlinkSocket {
    const fd = check(shim.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'socket(AF_NETLINK)');
    const name = new DataView(new ArrayBuffer(12)); // sockaddr_nl: family, pad, port id, groups
    name.setUint16(0, AF_NETLINK, true);
    name.setUint32(8, groups, true);
    const result = shim.bind(fd, name, 12);
    if (result < 0) shim.close(fd);
    check(result, 'bind(AF_NETLINK)');
    return new NetlinkSocket(shim, fd);
  }

  /** Listens to one more multicast group, which may be above 32, where the mask of {@link listen} ends. */
  join(group: number): void {
    const number = new Uint32Array([group]);
    const result = this.#shim.setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, number, 4);
    check(result, 'setsockopt(NETLINK_ADD_MEMBERSHIP)');
  }

  /** Sends the builder's message and waits for the answer, whose payloads are copies. Does not throw on refusal. */
  request(subject: Subject): Answer {
    const { answer } = this.#exchange(subject);
    return answer;
  }

  /** Like {@link request}, but throws on refusal, with the kernel's explanation. */
  requestOrThrow(subject: Subject): Message[] {
    const answer = this.request(subject);
    checkAnswer(answer, subject);
    return answer.replies;
  }

  /**
   * Sends a dump request and collects the answers, as copies. If the table changed during the dump (NLM_F_DUMP_INTR),
   * entries may be missing, so the dump is repeated. `build` is called for each attempt.
   */
  dump(build: (builder: MessageBuilder) => unknown, subject: Subject): Message[] {
    for (let attempt = 1; ; attempt++) {
      build(this.builder);
      const { answer, interrupted } = this.#exchange(subject);
      checkAnswer(answer, subject);
      if (!interrupted || attempt === DUMP_ATTEMPTS) return answer.replies;
    }
  }

  /**
   * One datagram, without waiting, valid until the next call; or a negative errno: EAGAIN if the socket is empty,
   * ENOBUFS if the kernel has dropped some.
   */
  receive(): Uint8Array | number {
    return this.#receive(MSG_DONTWAIT);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#shim.close(this.fd);
  }

  #exchange(subject: Subject): { answer: Answer; interrupted: boolean } {
    if (this.#closed)
      throw new TwinpathError('ERR_PORT_CLOSED', { ...subject, detail: 'the netlink socket is closed' });
    if (this.#unfinished) this.#drain();
    this.#unfinished = true;
    this.#sequence = (this.#sequence + 1) >>> 0;
    const request = this.builder.finish(this.#sequence);
    check(this.#shim.send(this.fd, request, request.length, 0), 'send(netlink)', { device: subject.device });

    const replies: Message[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of parseMessages(this.#datagram(subject))) {
        if (message.sequence !== this.#sequence) continue; // the rest of an exchange that failed
        if (message.flags & NLM_F.DUMP_INTR) interrupted = true;
        if (message.type === NLMSG.ERROR || message.type === NLMSG.DONE) {
          this.#unfinished = false;
          return { answer: { ...parseAcknowledgement(message), replies }, interrupted };
        }
        if (message.type >= NLMSG.MIN_TYPE) replies.push({ ...message, payload: message.payload.slice() });
      }
    }
  }

  /** Discards what is left of the last exchange. Answers that come later have another sequence number. */
  #drain(): void {
    for (let datagrams = 0; datagrams < DRAINED_DATAGRAMS; datagrams++) {
      if (typeof this.#receive(MSG_DONTWAIT) === 'number') return;
    }
  }

  #datagram(subject: Subject): Uint8Array {
    for (;;) {
      const datagram = this.#receive(0);
      if (typeof datagram !== 'number') return datagram;
      if (datagram === Errno.EINTR) continue;
      if (datagram === Errno.EAGAIN) {
        throw new TwinpathError('ERR_TIMEOUT', { ...subject, detail: `no answer in ${REPLY_SECONDS} s` });
      }
      check(datagram, 'recv(netlink)', { device: subject.device });
    }
  }

  /** Asks for the length of the next datagram first, because recv truncates a datagram that does not fit. */
  #receive(flags: number): Uint8Array | number {
    const length = this.#shim.recv(this.fd, this.#buffer, 0, flags | MSG_PEEK | MSG_TRUNC);
    if (length < 0) return length;
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    const taken = this.#shim.recv(this.fd, this.#buffer, this.#buffer.length, flags | MSG_TRUNC);
    return taken < 0 ? taken : this.#buffer.subarray(0, taken);
  }
}

/** Throws if the answer is a refusal. */
export function checkAnswer({ error, text }: Acknowledgement, { syscall, ...details }: Subject): void {
  check(error, syscall, text ? { detail: `the kernel says "${text}"`, ...details } : details);
}
