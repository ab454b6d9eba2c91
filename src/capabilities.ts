/**
 * Which capabilities this thread lacks that a port needs (capabilities(7)), and the hint for a refusal.
 *
 * What each one is for, on Linux 6.18 (test/faults/capabilities.test.ts opens ports with exactly these):
 *
 * - CAP_NET_ADMIN: taps, tcx and XDP attachments, rtnetlink and ethtool changes.
 * - CAP_NET_RAW: AF_XDP sockets, and the packet socket of inline mode.
 * - CAP_BPF: programs and maps. Needed even if kernel.unprivileged_bpf_disabled is 0: programs for XDP and tcx are never
 *   unprivileged (kernel/bpf/syscall.c, bpf_prog_load). CAP_SYS_ADMIN, of which it was a part before Linux 5.8, includes it.
 * - CAP_IPC_LOCK: an AF_XDP socket locks all frames of the port in memory. Without it RLIMIT_MEMLOCK has to be large enough
 *   (net/xdp/xdp_umem.c, xdp_umem_account_pages).
 *
 * - CAP_PERFMON: programs that compute positions in a packet, which are those with `protect: 'platform'`, and those of rules for
 *   XDP (kernel/bpf/verifier.c, sanitize_err, bpf_allow_ptr_leaks). A port without them does not need it. CAP_SYS_ADMIN
 *   includes it.
 *
 * Only `netns` needs CAP_SYS_ADMIN (setns(2)), and only thread priorities need CAP_SYS_NICE.
 */
import { readFileSync } from 'node:fs';

const NEEDED = [
  ['CAP_NET_ADMIN', 12],
  ['CAP_NET_RAW', 13],
  ['CAP_BPF', 39],
  ['CAP_IPC_LOCK', 14],
] as const;
const CAP_SYS_ADMIN = 21;
/** Needed by some ports only. */
const COMPUTING = [['CAP_PERFMON', 38]] as const;
/** Parts of CAP_SYS_ADMIN before Linux 5.8, which includes them still. */
const INCLUDED: readonly string[] = ['CAP_BPF', 'CAP_PERFMON'];

type Capability = (typeof NEEDED)[number] | (typeof COMPUTING)[number];
type Name = Capability[0];

/** Names of these capabilities that are not effective in `status`, the text of /proc/thread-self/status. */
export function lackingIn(status: string, needed: readonly Capability[] = NEEDED): Name[] {
  const digits = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (digits === undefined) return [];
  const effective = BigInt(`0x${digits}`);
  const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
  return needed
    .filter(([name, bit]) => !has(bit) && !(INCLUDED.includes(name) && has(CAP_SYS_ADMIN)))
    .map(([name]) => name);
}

/** The same for the calling thread; none if /proc cannot be read. */
export function lackingCapabilities(needed: readonly Capability[] = NEEDED): Name[] {
  try {
    return lackingIn(readFileSync('/proc/thread-self/status', 'latin1'), needed);
  } catch {
    return [];
  }
}

/** The hint for EPERM and EACCES. */
export function permissionHint(lacking: readonly string[] = lackingCapabilities()): string {
  const needed = enumeration(NEEDED.map(([name]) => name));
  return lacking.length > 0
    ? `Run as root, or with ${needed}: this process lacks ${enumeration(lacking)}.`
    : `This process has ${needed}, as root has: a security module, a container or a user namespace refuses.`;
}

/** The hint if the verifier refuses a program that computes positions in a packet. */
export function computingHint(lacking: readonly string[] = lackingCapabilities(COMPUTING)): string {
  return lacking.length > 0
    ? "Run as root, or with CAP_PERFMON too, which rules and protect: 'platform' need: this process lacks it."
    : 'This process has CAP_PERFMON, as root has: a security module, a container or a user namespace refuses.';
}

function enumeration(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
