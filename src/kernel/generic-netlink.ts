/**
 * Generic netlink: a family has a name and a number that the kernel assigns, and a message's header holds the command.
 *
 * Coordinator thread and command line, as for all netlink sockets. Format: include/uapi/linux/genetlink.h.
 */
import { Errno } from '../errors.ts';
import { Attributes, NLM_F } from './netlink.ts';
import { checkAnswer, type NetlinkSocket } from './netlink-socket.ts';

/** Bytes of struct genlmsghdr. */
export const GENLMSGHDR = 4;

const GENL_ID_CTRL = 0x10;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2, OPS: 6, MCAST_GROUPS: 7 } as const;
const CTRL_ATTR_OP_ID = 1;
const CTRL_ATTR_MCAST_GRP = { NAME: 1, ID: 2 } as const;

export interface Family {
  /** The message type of all its messages. */
  readonly id: number;
  /** The commands that this kernel has: an older kernel has fewer, and refuses the others with EOPNOTSUPP. */
  readonly commands: ReadonlySet<number>;
  /** Multicast groups by name. */
  readonly groups: ReadonlyMap<string, number>;
}

/** `undefined` if the kernel was built without the family, or its module is not loaded. @throws ERR_KERNEL */
export function findFamily(socket: NetlinkSocket, name: string): Family | undefined {
  const subject = { syscall: 'CTRL_CMD_GETFAMILY', device: name };
  socket.builder
    .begin(GENL_ID_CTRL, NLM_F.REQUEST | NLM_F.ACK, genlmsghdr(CTRL_CMD_GETFAMILY))
    .string(CTRL_ATTR.FAMILY_NAME, name);
  const answer = socket.request(subject);
  if (answer.error === Errno.ENOENT) return undefined;
  checkAnswer(answer, subject);
  const reply = answer.replies[0];
  if (reply === undefined) return undefined;
  const family = new Attributes(reply.payload, GENLMSGHDR);
  const groups = family.nested(CTRL_ATTR.MCAST_GROUPS).list.map(({ value }) => {
    const group = new Attributes(value);
    return [group.string(CTRL_ATTR_MCAST_GRP.NAME), group.u32(CTRL_ATTR_MCAST_GRP.ID)] as const;
  });
  const commands = family
    .nested(CTRL_ATTR.OPS)
    .list.map(({ value }) => new Attributes(value).u32(CTRL_ATTR_OP_ID));
  return { id: family.u16(CTRL_ATTR.FAMILY_ID), commands: new Set(commands), groups: new Map(groups) };
}

export function genlmsghdr(command: number): Uint8Array {
  return Uint8Array.of(command, 1, 0, 0);
}
