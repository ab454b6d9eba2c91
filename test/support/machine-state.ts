/**
 * What a port could leave behind: descriptors and mappings of rings in this process; XDP and tcx programs, taps, qdiscs
 * and filters in a network namespace. A snapshot is a list of lines, so that a failing test shows what was left.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Errno } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { Attributes, NLM_F, viewOf } from '../../src/kernel/netlink.ts';
import { NETLINK, NetlinkSocket } from '../../src/kernel/netlink-socket.ts';
import { type Link, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';

const RTM_GETQDISC = 38;
/** Bytes of struct tcmsg: family, pad, ifindex, handle, parent, info. */
const TCMSG = 20;
const TCA_KIND = 1;
const BPF_PROG_QUERY = 16;
/** union bpf_attr, query: target_ifindex, attach_type, two flags, prog_ids, count, … revision. */
const QUERY = { ifindex: 0, attachType: 4, count: 24, bytes: 64 } as const;
const TCX = { ingress: 46, egress: 47 } as const;

/** The targets of this process's descriptors, without the numbers of sockets and pipes. Sorted. */
export function descriptors(): string[] {
  const found: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      found.push(readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, ''));
    } catch {
      // The descriptor that read the directory.
    }
  }
  return found.filter((target) => !target.startsWith('/proc/')).sort();
}

/** Mappings of rings in this process: AF_XDP sockets and io_urings. */
export function ringMappings(): string[] {
  const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return lines.filter((line) => /socket:|io_uring|bpf/.test(line));
}

/** One line for each attachment in the namespace that a port could have made. */
export function attachments(namespace: string): string[] {
  const shim = loadShim();
  return inNamespace(shim, namespace, () => {
    const links = RtNetlink.open(shim);
    const qdiscs = NetlinkSocket.open(shim, NETLINK.ROUTE);
    try {
      return links
        .links()
        .flatMap((link) => [
          ...(link.kind === 'tun' ? [`tap ${link.name}`] : []),
          ...(link.xdpProgram === 0 ? [] : [`XDP ${link.xdpProgram} on ${link.name}`]),
          ...tcx(link).map((where) => `tcx ${where} on ${link.name}`),
          ...filters(links, qdiscs, link),
        ]);
    } finally {
      qdiscs.close();
      links.close();
    }
  });
}

/** A link by name, in the namespace. */
export function linkIn(namespace: string, name: string): Link | undefined {
  const shim = loadShim();
  return inNamespace(shim, namespace, () => {
    const links = RtNetlink.open(shim);
    try {
      return links.link(name);
    } finally {
      links.close();
    }
  });
}

function tcx({ ifindex }: Link): string[] {
  const shim = loadShim();
  return Object.entries(TCX).flatMap(([where, type]) => {
    const query = new DataView(new ArrayBuffer(QUERY.bytes));
    query.setUint32(QUERY.ifindex, ifindex, true);
    query.setUint32(QUERY.attachType, type, true);
    const result = shim.bpf(BPF_PROG_QUERY, query, QUERY.bytes);
    if (result < 0 && result !== Errno.ENOENT && result !== Errno.EINVAL)
      return [`${where}: errno ${-result}`];
    return query.getUint32(QUERY.count, true) > 0 ? [where] : [];
  });
}

/** tc filters by name, and their clsact qdisc. */
function filters(links: RtNetlink, qdiscs: NetlinkSocket, { ifindex, name }: Link): string[] {
  const found = (['ingress', 'egress'] as const).flatMap((where) =>
    links.bpfFilters(ifindex, where).map((filter) => `filter ${filter.name} at ${where} of ${name}`),
  );
  return hasClsact(qdiscs, ifindex) ? [`clsact on ${name}`, ...found] : found;
}

/** NB: to add one would also show it, but stops the device's transmit queues for a moment (qdisc_graft). */
function hasClsact(socket: NetlinkSocket, ifindex: number): boolean {
  const header = new DataView(new ArrayBuffer(TCMSG));
  const qdiscs = socket.dump((builder) => builder.begin(RTM_GETQDISC, NLM_F.REQUEST | NLM_F.DUMP, header), {
    syscall: 'RTM_GETQDISC',
  });
  return qdiscs.some(({ payload }) => {
    const here = viewOf(payload).getInt32(4, true) === ifindex;
    return here && new Attributes(payload, TCMSG).string(TCA_KIND) === 'clsact';
  });
}
