/**
 * What a demo is played on: a port, the host of its NIC, and traffic from outside. With root these are
 * kernel devices in network namespaces, without it threads of this process; the port is the same.
 */

import { Lab } from '../lab/host.ts';
import type { HostNic } from '../lab/memory-nic.ts';
import { MemoryNic } from '../lab/memory-nic.ts';
import { Traffic, type TrafficOptions } from '../lab/traffic.ts';
import type { SharedOptions } from '../options.ts';
import { openPort, type Port } from '../port.ts';
import { handlerUrl } from './handler-name.ts';

export interface StageOptions extends Pick<SharedOptions, 'mode' | 'tap' | 'tie'> {
  readonly network: 'kernel' | 'memory';
  readonly queues: number;
  readonly standIn: 'veth' | 'bridge';
  readonly traffic: TrafficOptions;
}

export interface Stage extends AsyncDisposable {
  readonly port: Port;
  readonly nic: HostNic;
  readonly traffic: Traffic;
}

/** @throws what Lab, openPort and Traffic throw; nothing is left then */
export async function openStage(options: StageOptions): Promise<Stage> {
  return options.network === 'kernel' ? openKernelStage(options) : openMemoryStage(options);
}

async function openKernelStage({ queues, standIn, traffic, mode, tap, tie }: StageOptions): Promise<Stage> {
  const opened: AsyncDisposable[] = [];
  return orNothing(opened, async () => {
    const lab = await Lab.create({ queues, standIn });
    opened.push(lab);
    const { nic } = lab;
    const port = await openPort({
      ...{ netns: lab.guest, netvsc: nic.netvsc, force: true, queues, mode, tap, tie },
      ...{ handler: handlerUrl('echo'), handlerOptions: { address: nic.guestAddress } },
    });
    opened.push(port);
    const started = await Traffic.start(lab, nic, traffic);
    opened.push(started);
    return { port, nic, traffic: started };
  });
}

async function openMemoryStage({ queues, traffic, mode }: StageOptions): Promise<Stage> {
  const opened: AsyncDisposable[] = [];
  return orNothing(opened, async () => {
    const port = await openPort({
      ...{ network: 'memory', queues, mode },
      ...{ handler: handlerUrl('echo'), handlerOptions: { address: MemoryNic.guestAddress } },
    });
    opened.push(port);
    const nic = new MemoryNic(port);
    const { shared, mac: guestMac } = port;
    const network = { shared, guestMac, switchboard: nic.switchboard.buffer };
    const started = await Traffic.startInMemory(network, nic, traffic);
    opened.push(started);
    return { port, nic, traffic: started };
  });
}

/** Disposes what was opened in reverse order: at the end, or when opening the rest failed. */
async function orNothing(
  opened: readonly AsyncDisposable[],
  open: () => Promise<Omit<Stage, typeof Symbol.asyncDispose>>,
): Promise<Stage> {
  const dispose = async (): Promise<void> => {
    for (const one of opened.toReversed()) await one[Symbol.asyncDispose]();
  };
  try {
    return { ...(await open()), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
