/**
 * clsact and cls_bpf: how a program stands at a device's ingress or egress on kernels without tcx. And the qdisc
 * in front of a device's queues.
 *
 * NB: unlike links, what is put here outlives the process, if the device does. So every verb is idempotent, names its own
 * handle and priority, and is meant to be undone by the next start as well as by an orderly end.
 * Format: include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h.
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import { Attributes, NLM_F, viewOf } from './netlink.ts';
import { accept, type NetlinkSocket } from './netlink-socket.ts';

export type Hook = 'ingress' | 'egress';

export interface BpfFilter {
  readonly name: string;
  readonly handle: number;
  /** 1 to 65535; lower runs first. */
  readonly priority: number;
}

/** A filter of any kind. */
export interface Filter extends BpfFilter {
  /** 'bpf', 'flower', 'matchall' … */
  readonly kind: string;
  /** Of a 'bpf' filter, else 0. */
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

/** What the device is to send goes to its driver at once, without a queue of the kernel's in front of it. */
export function setNoqueue(socket: NetlinkSocket, ifindex: number): void {
  const header = tcmsg(ifindex, 0, ROOT_PARENT);
  socket.builder.begin(RTM_NEWQDISC, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE, header);
  socket.builder.string(TCA_KIND, 'noqueue');
  const subject = { syscall: 'RTM_NEWQDISC(noqueue)', device: `ifindex ${ifindex}` };
  accept(socket.request(subject), subject);
}

/** @returns false when clsact already was there */
export function addClsact(socket: NetlinkSocket, ifindex: number): boolean {
  const header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT);
  socket.builder.begin(RTM_NEWQDISC, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL, header);
  socket.builder.string(TCA_KIND, 'clsact');
  const subject = { syscall: 'RTM_NEWQDISC(clsact)', device: `ifindex ${ifindex}` };
  const answer = socket.request(subject);
  if (answer.error !== Errno.EEXIST) {
    accept(answer, subject);
    return true;
  }
  // clsact and the older ingress qdisc share one handle, and ingress has no egress hook.
  if (rootKinds(socket, ifindex).includes('clsact')) return false;
  throw new TwinpathError('ERR_DEVICE_BUSY', {
    ...subject,
    detail: 'an "ingress" qdisc is in the place of clsact',
    hint: 'Remove it with "tc qdisc del dev DEVICE ingress" if nothing needs it.',
  });
}

/** Takes every filter with it, whoever put it there. Nothing happens when there is no clsact. */
export function deleteClsact(socket: NetlinkSocket, ifindex: number): void {
  const header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT);
  socket.builder.begin(RTM_DELQDISC, NLM_F.REQUEST | NLM_F.ACK, header).string(TCA_KIND, 'clsact');
  tolerateAbsence(socket, 'RTM_DELQDISC(clsact)', ifindex);
}

/** Puts a direct-action program there; the same handle and priority again replace it in one step. */
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
  socket.demand({ syscall: `RTM_NEWTFILTER(bpf, ${where})`, device: `ifindex ${ifindex}` });
}

/** The cls_bpf filters of one hook, ours or not; none when there is no clsact. */
export function bpfFilters(socket: NetlinkSocket, ifindex: number, where: Hook): BpfFilter[] {
  return filters(socket, ifindex, where)
    .filter(({ kind }) => kind === 'bpf')
    .map(({ name, handle, priority }) => ({ name, handle, priority }));
}

/** All filters of one hook. */
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
    // Each priority is listed once more on its own, with handle 0.
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

/** Nothing happens when there is no such filter. */
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

/** The ifindex that a message about a qdisc or a filter is about; undefined if it is about neither. */
export function disciplineOf(type: number, payload: Uint8Array): number | undefined {
  const about =
    type === RTM_NEWQDISC || type === RTM_DELQDISC || type === RTM_NEWTFILTER || type === RTM_DELTFILTER;
  return about && payload.length >= TCMSG ? viewOf(payload).getInt32(4, true) : undefined;
}

/** Whether what the device is to send goes to its driver at once: see {@link setNoqueue}. */
export function isNoqueue(socket: NetlinkSocket, ifindex: number): boolean {
  return kindsAt(socket, ifindex, ROOT_PARENT).every((kind) => kind === 'noqueue');
}

/** The kinds of the qdiscs that sit at the place of clsact: one, or none. */
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

/** ENODEV: the device went. ENOENT: no such filter. EINVAL: no clsact, or another qdisc in its place. */
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
