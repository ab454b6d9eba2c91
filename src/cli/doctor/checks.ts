/** What stands in the way of a port, and the command that mends it. Pure, over facts.ts. */

import { IFF, type Link } from '../../kernel/link.ts';
import { kernelIsAtLeast } from '../../kernel/machine.ts';
import type { DeviceFacts, MachineFacts } from './facts.ts';

/** One line of the report. */
export interface Finding {
  /** 'machine', or the name of a NetVSC or a card. */
  readonly about: string;
  /** 'problem': no port, or none as it should be. 'note': a port works without it, or it is to be known. */
  readonly state: 'ok' | 'note' | 'problem';
  /** A sentence without a full stop. */
  readonly text: string;
  /** A command line, or a setting; absent where there is nothing to do. */
  readonly mend?: string;
}

/** Frames of one queue, rings and what the kernel adds: below this limit even a small port locks too much. */
const MIN_LOCKED = 64 * 2 ** 20;

export function machineFindings(facts: MachineFacts): Finding[] {
  const { kernel, node, lacking, tun, ioUringDisabled, lockdown, bpfJit, memlock, runtime } = facts;
  const since = (major: number, minor: number): boolean => kernelIsAtLeast(major, minor, kernel);
  const finding = (state: Finding['state'], text: string, mend?: string): Finding => ({
    ...{ about: 'machine', state, text },
    ...(mend === undefined ? {} : { mend }),
  });
  // With enough memory to lock, nobody needs the capability for it.
  const needed = lacking.filter((name) => name !== 'CAP_IPC_LOCK' || memlock < MIN_LOCKED);
  const findings = [
    since(5, 10)
      ? finding('ok', `Linux ${kernel}, Node ${node}`)
      : finding(
          'problem',
          `Linux ${kernel} is older than 5.10, the oldest that was tried`,
          'use a newer kernel',
        ),
    since(6, 6)
      ? undefined
      : finding(
          'note',
          'before Linux 6.6 there is no tcx: tc filters are used, which outlive a killed process',
        ),
    since(6, 6)
      ? undefined
      : finding('note', 'before Linux 6.6 a packet on the VF has at most one page: no jumbo frames there'),
    needed.length === 0
      ? finding('ok', 'this process has the capabilities that a port needs')
      : finding(
          'problem',
          `this process lacks ${needed.join(', ')}`,
          'run as root, or see docs/requirements.md',
        ),
    {
      usable: finding('ok', '/dev/net/tun is usable'),
      missing: finding('problem', '/dev/net/tun is missing', 'modprobe tun'),
      refused: finding('problem', 'this user may not open /dev/net/tun', 'chmod a+rw /dev/net/tun'),
    }[tun],
    ioUringDisabled === 2 || (ioUringDisabled === 1 && lacking.length > 0)
      ? finding(
          'note',
          'io_uring is switched off: the synthetic path reads and writes packet by packet',
          'sysctl kernel.io_uring_disabled=0',
        )
      : undefined,
    lockdown === 'confidentiality'
      ? finding(
          'problem',
          'kernel lockdown "confidentiality" refuses BPF programs that read packets',
          'boot with lockdown=integrity',
        )
      : undefined,
    bpfJit === 0
      ? finding(
          'note',
          'the BPF compiler is switched off: programs are interpreted',
          'sysctl net.core.bpf_jit_enable=1',
        )
      : undefined,
    lacking.includes('CAP_IPC_LOCK') && memlock < MIN_LOCKED
      ? finding(
          'problem',
          `only ${Math.round(memlock / 1024)} KiB may be locked in memory: too little for the VF's frames`,
          'ulimit -l unlimited',
        )
      : undefined,
    runtime.refusal === undefined
      ? undefined
      : finding(
          'note',
          `no control socket and no saved settings: ${runtime.refusal}`,
          runtime.folder && `chmod 700 ${runtime.folder}`,
        ),
  ];
  return findings.filter((one) => one !== undefined);
}

export function deviceFindings({
  found,
  synthetic,
  vf,
  holder,
  managers,
  leftFilters,
}: DeviceFacts): Finding[] {
  const { kind, netvsc, reason } = found;
  const finding = (state: Finding['state'], text: string, mend?: string): Finding => ({
    ...{ about: netvsc.name, state, text },
    ...(mend === undefined ? {} : { mend }),
  });
  const isOn = (link: Link): boolean => (link.flags & IFF.UP) !== 0;
  const findings: (Finding | undefined)[] = [];
  if (holder !== undefined)
    findings.push(finding('problem', `the port of process ${holder} has it`, `twinpath stop ${netvsc.name}`));
  else if (reason === '') findings.push(finding('ok', 'a port takes it by default'));
  else findings.push(finding('note', `it ${reason}: a port takes it only by name`));
  if (!isOn(netvsc)) findings.push(finding('problem', 'it is down', `ip link set ${netvsc.name} up`));
  if (kind !== 'card' && found.vf === undefined)
    findings.push(finding('note', 'it has no VF now: the port runs without one until it appears'));
  if (found.vf !== undefined && found.vf.xdpProgram !== 0 && holder === undefined) {
    const { name, xdpProgram } = found.vf;
    findings.push(
      finding(
        'problem',
        `${name} carries XDP program ${xdpProgram} of somebody else`,
        `ip link set ${name} xdp off`,
      ),
    );
  }
  if (kind === 'card' && netvsc.xdpProgram !== 0 && holder === undefined) {
    const { name, xdpProgram } = netvsc;
    findings.push(
      finding(
        'problem',
        `it carries XDP program ${xdpProgram} of somebody else`,
        `ip link set ${name} xdp off`,
      ),
    );
  }
  if (vf?.xdp !== undefined && !vf.xdp.native)
    findings.push(
      finding(
        'note',
        `the driver of ${vf.device} has no native XDP: packets take the generic hook, which is slower`,
      ),
    );
  if (vf !== undefined && found.vf !== undefined && vf.mtu.current < synthetic.mtu.current) {
    const mend = `ip link set ${vf.device} mtu ${synthetic.mtu.current}`;
    findings.push(
      finding(
        'problem',
        `the MTU of ${vf.device} is ${vf.mtu.current}, that of ${netvsc.name} ${synthetic.mtu.current}`,
        mend,
      ),
    );
  }
  for (const { manager, device } of managers) {
    const mend =
      manager === 'NetworkManager'
        ? `nmcli device set ${device} managed no`
        : `[Match] Name=${device} and [Link] Unmanaged=yes in a .network file of /etc/systemd/network`;
    findings.push(
      finding('note', `${manager} configures ${device}: it may change what a port relies on`, mend),
    );
  }
  if (leftFilters > 0)
    findings.push(
      finding('note', 'a killed process left tc filters, which do nothing: the next port removes them'),
    );
  return findings.filter((one) => one !== undefined);
}
