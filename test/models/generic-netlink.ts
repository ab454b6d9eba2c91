/**
 * The kernel's side of a generic netlink socket, with one family: `ethtool`. It lists the commands that it has, and refuses the
 * others with EOPNOTSUPP, as genl_family_rcv_msg does (net/netlink/genetlink.c). The answer to a request is in the socket before
 * send() returns.
 */
import { Attributes, MessageBuilder, parseMessages } from '../../src/kernel/netlink.ts';
import type { Shim } from '../../src/kernel/shim.ts';

const FAMILY_ID = 21;
const CONTROL_ID = 16;
const GENLMSGHDR = 4;
const NLMSG_ERROR = 2;
const EOPNOTSUPP = -95;
const EAGAIN = -11;
const MSG_PEEK = 2;

/** A negative errno, 0 for a success without a reply, or what to put into the reply. */
export type Reply = number | ((reply: MessageBuilder) => unknown);
export type Handler = (request: Attributes) => Reply;

export class GenericNetlink {
  /** By command. */
  readonly commands: ReadonlyMap<number, Handler>;
  /** Commands that were received, in order. */
  readonly received: number[] = [];
  readonly #queued: Uint8Array[] = [];

  constructor(commands: ReadonlyMap<number, Handler>) {
    this.commands = commands;
  }

  /** The calls that a NetlinkSocket makes. The socket has this number. */
  calls(fd: number): Pick<Shim, 'socket' | 'bind' | 'setsockopt' | 'send' | 'recv' | 'close'> {
    return {
      socket: () => fd,
      bind: () => 0,
      setsockopt: () => 0,
      close: () => 0,
      send: (_, at, length) => this.#receive(bytesOf(at).subarray(0, length), length),
      recv: (_, at, length, flags) => this.#send(at, length, flags),
    };
  }

  #receive(datagram: Uint8Array, length: number): number {
    for (const message of parseMessages(datagram)) {
      const { type, sequence, payload } = message;
      const command = payload[0]!;
      const reply =
        type === CONTROL_ID ? this.#family : this.#handle(command, new Attributes(payload, GENLMSGHDR));
      const builder = new MessageBuilder();
      if (typeof reply === 'function') {
        reply(builder.begin(type, 0, Uint8Array.of(command, 1, 0, 0)));
        this.#queued.push(builder.finish(sequence).slice());
      }
      const acknowledgement = new DataView(new ArrayBuffer(20));
      acknowledgement.setInt32(0, typeof reply === 'number' ? reply : 0, true);
      this.#queued.push(builder.begin(NLMSG_ERROR, 0, acknowledgement).finish(sequence).slice());
    }
    return length;
  }

  #handle(command: number, request: Attributes): Reply {
    this.received.push(command);
    return this.commands.get(command)?.(request) ?? EOPNOTSUPP;
  }

  /** The reply to CTRL_CMD_GETFAMILY. */
  readonly #family = (reply: MessageBuilder): void => {
    reply.u16(1, FAMILY_ID).nest(6);
    for (const command of this.commands.keys()) reply.nest(1).u32(1, command).u32(2, 0).end();
    reply.end();
  };

  #send(at: ArrayBufferView, length: number, flags: number): number {
    const datagram = this.#queued[0];
    if (datagram === undefined) return EAGAIN;
    bytesOf(at).set(datagram.subarray(0, length));
    if ((flags & MSG_PEEK) === 0) this.#queued.shift();
    return datagram.length;
  }
}

function bytesOf(at: ArrayBufferView): Uint8Array {
  return new Uint8Array(at.buffer, at.byteOffset, at.byteLength);
}
