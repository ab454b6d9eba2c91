/**
 * clsact and cls_bpf, which attach a program to a device's ingress or egress on kernels without tcx; and the qdisc of a
 * device.
 *
 * NB: unlike BPF links, qdiscs and filters outlive the process. So all functions are idempotent and take handle and
 * priority, and both a close and the next start undo what they added. Format: include/uapi/linux/rtnetlink.h,
 * pkt_sched.h, pkt_cls.h.
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import { Attributes, NLM_F, viewOf } from './netlink.ts';
import { checkAnswer, type NetlinkSocket } from './netlink-socket.ts';

export type Hook = 'ingress' | 'egress';

export interface BpfFilter {
  readonly name: string;
  readonly handle: number;
  /** 1 to 65535; lower runs first. */
  readonly priority: number;
}

export interface Filter extends BpfFilter {
  /** 'bpf', 'flower', 'matchall' … */
  readonly kind: string;
  /** Of a 'bpf' filter; 0 for other kinds. */
  readonly programId: number;
}

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

/** Bytes of struct tcmsg: family, pad, ifindex, handle, parent, info. */
const TCMSG = 20;
const ROOT_PARENT = 0xffffffff;
const CLSACT_PARENT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const HOOK_PARENT: Readonly<Record<Hook, number>> = { ingress: 0xfffffff2, egress: 0xfffffff3 };
const ANY_PROTOCOL = 0x0300; // htons(ETH_P_ALL)

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
const TCA_BPF_FLAG_ACT_DIRECT = 1;

/** Replaces the device's root qdisc by `noqueue`: the kernel passes packets to the driver without queueing them. */
export function setNoqueue(socket: NetlinkSocket, ifindex: number): void {
  const header = tcmsg(ifindex, 0, ROOT_PARENT);
  socket.builder.begin(RTM_NEWQDISC, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE, header);
  socket.builder.string(TCA_KIND, 'noqueue');
  const subject = { syscall: 'RTM_NEWQDISC(noqueue)', device: `ifindex ${ifindex}` };
  checkAnswer(socket.request(subject), subject);
}

/** @returns false if the device already had clsact */
export function addClsact(socket: NetlinkSocket, ifindex: number): boolean {
  const header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT);
  socket.builder.begin(RTM_NEWQDISC, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL, header);
  socket.builder.string(TCA_KIND, 'clsact');
  const subject = { syscall: 'RTM_NEWQDISC(clsact)', device: `ifindex ${ifindex}` };
  const answer = socket.request(subject);
  if (answer.error !== Errno.EEXIST) {
    checkAnswer(answer, subject);
    return true;
  }
  // clsact and the older ingress qdisc have the same handle, and ingress has no egress hook.
  if (rootKinds(socket, ifindex).includes('clsact')) return false;
  throw new TwinpathError('ERR_DEVICE_BUSY', {
    ...subject,
    detail: 'an "ingress" qdisc is in the place of clsact',
    hint: 'If nothing needs it, remove it with "tc qdisc del dev DEVICE ingress".',
  });
}

/** Deletes clsact with all its filters, including those of other programs. Without clsact it does nothing. */
export function deleteClsact(socket: NetlinkSocket, ifindex: number): void {
  const header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT);
  socket.builder.begin(RTM_DELQDISC, NLM_F.REQUEST | NLM_F.ACK, header).string(TCA_KIND, 'clsact');
  tolerateAbsence(socket, 'RTM_DELQDISC(clsact)', ifindex);
}

/** Adds a direct-action program, or atomically replaces the one with this handle and priority. */
export function addBpfFilter(
  socket: NetlinkSocket,
  ifindex: number,
  where: Hook,
  programFd: number,
  { name, handle, priority }: BpfFilter,
): void {
  const header = tcmsg(ifindex, handle, HOOK_PARENT[where], info(priority));
  socket.builder
    .begin(RTM_NEWTFILTER, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE, header)
    .string(TCA_KIND, 'bpf')
    .nest(TCA_OPTIONS)
    .u32(TCA_BPF_FD, programFd)
    .string(TCA_BPF_NAME, name)
    .u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
    .end();
  socket.requestOrThrow({ syscall: `RTM_NEWTFILTER(bpf, ${where})`, device: `ifindex ${ifindex}` });
}

/** All cls_bpf filters of one hook, including those of other programs; empty without clsact. */
export function bpfFilters(socket: NetlinkSocket, ifindex: number, where: Hook): BpfFilter[] {
  return filters(socket, ifindex, where)
    .filter(({ kind }) => kind === 'bpf')
    .map(({ name, handle, priority }) => ({ name, handle, priority }));
}

/** All filters of one hook, of any kind. */
export function filters(socket: NetlinkSocket, ifindex: number, where: Hook): Filter[] {
  const subject = { syscall: `RTM_GETTFILTER(${where})`, device: `ifindex ${ifindex}` };
  const header = tcmsg(ifindex, 0, HOOK_PARENT[where]);
  const replies = socket.dump((builder) => {
    builder.begin(RTM_GETTFILTER, NLM_F.REQUEST | NLM_F.DUMP, header);
  }, subject);
  const found: Filter[] = [];
  for (const { payload } of replies) {
    if (payload.length < TCMSG) continue;
    const attributes = new Attributes(payload, TCMSG);
    const handle = viewOf(payload).getUint32(8, true);
    const kind = attributes.string(TCA_KIND);
    // The kernel also lists each priority by itself, with handle 0.
    if (handle === 0) continue;
    const bpf = kind === 'bpf' ? attributes.nested(TCA_OPTIONS) : undefined;
    found.push({
      kind,
      name: bpf?.string(TCA_BPF_NAME) ?? '',
      programId: bpf?.u32(TCA_BPF_ID) ?? 0,
      handle,
      priority: viewOf(payload).getUint32(16, true) >>> 16,
    });
  }
  return found;
}

/** Without such a filter it does nothing. */
export function deleteBpfFilter(
  socket: NetlinkSocket,
  ifindex: number,
  where: Hook,
  handle: number,
  priority: number,
): void {
  const header = tcmsg(ifindex, handle, HOOK_PARENT[where], info(priority));
  socket.builder.begin(RTM_DELTFILTER, NLM_F.REQUEST | NLM_F.ACK, header).string(TCA_KIND, 'bpf');
  tolerateAbsence(socket, `RTM_DELTFILTER(bpf, ${where})`, ifindex);
}

/** The ifindex in a message about a qdisc or a filter; undefined for other messages. */
export function qdiscIfindex(type: number, payload: Uint8Array): number | undefined {
  const about =
    type === RTM_NEWQDISC || type === RTM_DELQDISC || type === RTM_NEWTFILTER || type === RTM_DELTFILTER;
  return about && payload.length >= TCMSG ? viewOf(payload).getInt32(4, true) : undefined;
}

/** Whether the kernel passes packets to the driver without queueing them: see {@link setNoqueue}. */
export function isNoqueue(socket: NetlinkSocket, ifindex: number): boolean {
  return kindsAt(socket, ifindex, ROOT_PARENT).every((kind) => kind === 'noqueue');
}

/** Kind of the qdisc in the place of clsact, if any. */
const rootKinds = (socket: NetlinkSocket, ifindex: number): string[] =>
  kindsAt(socket, ifindex, CLSACT_PARENT);

function kindsAt(socket: NetlinkSocket, ifindex: number, parent: number): string[] {
  const subject = { syscall: 'RTM_GETQDISC', device: `ifindex ${ifindex}` };
  const replies = socket.dump((builder) => {
    builder.begin(RTM_GETQDISC, NLM_F.REQUEST | NLM_F.DUMP, tcmsg(ifindex, 0, 0));
  }, subject);
  return replies
    .filter(({ payload }) => {
      if (payload.length < TCMSG) return false;
      const view = viewOf(payload);
      return view.getInt32(4, true) === ifindex && view.getUint32(12, true) === parent;
    })
    .map(({ payload }) => new Attributes(payload, TCMSG).string(TCA_KIND));
}

/** ENODEV: the device is gone. ENOENT: no such filter. EINVAL: no clsact, or another qdisc in its place. */
function tolerateAbsence(socket: NetlinkSocket, syscall: string, ifindex: number): void {
  const { error } = socket.request({ syscall });
  if (error === Errno.ENOENT || error === Errno.ENODEV || error === Errno.EINVAL) return;
  check(error, syscall, { device: `ifindex ${ifindex}` });
}

const info = (priority: number): number => ((priority << 16) | ANY_PROTOCOL) >>> 0;

function tcmsg(ifindex: number, handle: number, parent: number, information = 0): DataView {
  const view = new DataView(new ArrayBuffer(TCMSG));
  view.setInt32(4, ifindex, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint32(16, information, true);
  return view;
}
