/** What stands in the way of a port, and the command that mends it. Pure, over facts.ts. */

import type { DeviceInformation } from '../../kernel/device-information.ts';
import { IFF, type Link } from '../../kernel/link.ts';
import { kernelIsAtLeast } from '../../kernel/machine.ts';
import {
  holderName,
  ioUringIsOff,
  lockedByPort,
  type MachineFacts,
  type Manager,
  TUN_OBSTACLES,
} from '../machine.ts';
import type { DeviceFacts } from './facts.ts';

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

/** What a limit of locked memory must leave beside the frames: their rings, and what Node and the kernel lock. */
const BESIDE_FRAMES = 1.1;

/** The file that keeps a manager off the taps of ports, and what makes it read that. */
const INSTRUCTIONS = {
  NetworkManager: 'cp deploy/network/85-twinpath.rules /etc/udev/rules.d/ && udevadm control --reload',
  'systemd-networkd': 'cp deploy/network/10-twinpath.network /etc/systemd/network/ && networkctl reload',
} as const satisfies Record<Manager, string>;

/** Drivers that run XDP on at most half of their channels. */
const HALVING = ['ena', 'gve'];

export function machineFindings(facts: MachineFacts): Finding[] {
  const { kernel, node, lacking, tun, lockdown, bpfJit, memlock, queues, runtime, managers } = facts;
  const locked = BESIDE_FRAMES * lockedByPort(queues);
  const kibibytes = (bytes: number): number => Math.ceil(bytes / 1024);
  const since = (major: number, minor: number): boolean => kernelIsAtLeast(major, minor, kernel);
  const finding = (state: Finding['state'], text: string, mend?: string): Finding => ({
    ...{ about: 'machine', state, text },
    ...(mend === undefined ? {} : { mend }),
  });
  // With enough memory to lock, nobody needs the capability for it.
  const needed = lacking.filter((name) => name !== 'CAP_IPC_LOCK' || memlock < locked);
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
      missing: finding('problem', TUN_OBSTACLES.missing, 'modprobe tun'),
      refused: finding('problem', TUN_OBSTACLES.refused, 'chmod a+rw /dev/net/tun'),
    }[tun],
    ioUringIsOff(facts)
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
    lacking.includes('CAP_IPC_LOCK') && memlock < locked
      ? finding(
          'problem',
          `this process may lock ${kibibytes(memlock)} KiB of memory, and the frames of a port with ${queues} queues are ${kibibytes(lockedByPort(queues))} KiB`,
          `ulimit -l ${kibibytes(locked)}, or LimitMEMLOCK=${kibibytes(locked)}K for systemd`,
        )
      : undefined,
    runtime.refusal === undefined
      ? undefined
      : finding(
          'note',
          `no control socket and no saved settings: ${runtime.refusal}`,
          runtime.folder && `chmod 700 ${runtime.folder}`,
        ),
    ...managers.map((manager) =>
      finding('note', `${manager} runs here and may configure the taps of a port`, INSTRUCTIONS[manager]),
    ),
  ];
  return findings.filter((one) => one !== undefined);
}

export function deviceFindings(
  { found, synthetic, vf, holder, managers, tcxPrograms, leftFilters }: DeviceFacts,
  /** Of a port that is opened without that option. */
  queues: number,
): Finding[] {
  const { kind, netvsc, reason } = found;
  const finding = (state: Finding['state'], text: string, mend?: string): Finding => ({
    ...{ about: netvsc.name, state, text },
    ...(mend === undefined ? {} : { mend }),
  });
  const isOn = (link: Link): boolean => (link.flags & IFF.UP) !== 0;
  const findings: (Finding | undefined)[] = [];
  if (holder !== undefined)
    findings.push(
      finding('problem', `it is held by ${holderName(holder)}`, `twinpath stop ${holder.pid ?? netvsc.name}`),
    );
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
  if (netvsc.xdpProgram !== 0 && holder === undefined) {
    const { name, xdpProgram } = netvsc;
    const copied = kind === 'card' ? '' : ', and the kernel copies it to the VF';
    const text = `it carries XDP program ${xdpProgram} of somebody else${copied}`;
    findings.push(finding('problem', text, `ip link set ${name} xdp off`));
  }
  if (tcxPrograms.length > 0) {
    const text = `it carries tcx programs of others (${tcxPrograms.join(', ')}): they see no packet that the port has taken`;
    const mend = `bpftool net detach tcx_ingress dev ${netvsc.name}; or open the port with --redirect-order last`;
    findings.push(finding('note', text, mend));
  }
  if (vf?.xdp !== undefined && !vf.xdp.native)
    findings.push(
      finding(
        'note',
        `the driver of ${vf.device} has no native XDP: packets take the generic hook, which is slower`,
      ),
    );
  if (vf !== undefined) findings.push(channelFinding(vf, queues, finding));
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

/** A port gives the device as many channels as it has queues: what the driver does not let it have. */
function channelFinding(
  { device, driver, queues: { rx, maxRx } }: DeviceInformation,
  queues: number,
  finding: (state: Finding['state'], text: string, mend?: string) => Finding,
): Finding | undefined {
  const half = Math.floor(maxRx / 2);
  if (HALVING.includes(driver) && rx > half && half > 0) {
    const text = `${driver} runs XDP on at most half of its channels: ${half} of ${maxRx}, and ${rx} are in use`;
    return finding(
      'note',
      text,
      `ethtool -L ${device} combined ${half}, and open the port with --queues ${half}`,
    );
  }
  if (maxRx === 0 || maxRx >= queues) return undefined;
  const text = `${device} has room for ${maxRx} of ${queues} queues: workers hand packets to each other`;
  return finding('note', text, `open the port with --queues ${maxRx}`);
}
