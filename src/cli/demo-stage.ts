/**
 * What a demo is played on: a port, the host of its NIC, and traffic from outside. With root these are
 * kernel devices in network namespaces, without it threads of this process; the port is the same.
 */

import { Download } from '../lab/download.ts';
import { Lab } from '../lab/host.ts';
import type { HostNic } from '../lab/memory-nic.ts';
import { MemoryNic } from '../lab/memory-nic.ts';
import { Traffic, type TrafficOptions } from '../lab/traffic.ts';
import type { SharedOptions } from '../options.ts';
import { openPort, type Port } from '../port.ts';
import { handlerUrl } from './handler-name.ts';

/** How port and lab are made. */
export interface StageOptions extends Pick<SharedOptions, 'mode' | 'tap' | 'redirect'> {
  readonly queues: number;
  readonly standIn: 'veth' | 'bridge';
}

export interface TrafficStageOptions extends StageOptions {
  readonly network: 'kernel' | 'memory';
  readonly traffic: TrafficOptions;
}

export interface Stage extends AsyncDisposable {
  readonly port: Port;
  readonly nic: HostNic;
}

/** A port that answers, and numbered packets for it. */
export interface TrafficStage extends Stage {
  readonly traffic: Traffic;
}

/** A port that stands between the guest's own stack and the network, and a download through it. */
export interface DownloadStage extends Stage {
  readonly download: Download;
}

/** @throws what Lab, openPort and Traffic throw; nothing is left then */
export async function openTrafficStage(options: TrafficStageOptions): Promise<TrafficStage> {
  return options.network === 'kernel' ? openKernelStage(options) : openMemoryStage(options);
}

/** Kernel devices only. @throws what Lab, openPort and Download throw; nothing is left then */
export async function openDownloadStage({
  queues,
  standIn,
  ...options
}: StageOptions): Promise<DownloadStage> {
  return opening(async (opened) => {
    const lab = opened(await Lab.create({ queues, standIn }));
    const { nic } = lab;
    const port = opened(
      await openPort({
        ...{ netns: lab.guest, netvsc: nic.netvsc, force: true, queues, ...options },
        ...{ host: 'inline', handler: handlerUrl('host') },
      }),
    );
    return { port, nic, download: opened(await Download.start(lab, nic)) };
  });
}

/** What the port will say went wrong, as it comes. */
export function troubles(port: Port): readonly string[] {
  const told: string[] = [];
  port.on('error', ({ message }) => told.push(message));
  port.on('worker', ({ state, queue, detail }) => {
    if (state === 'died') told.push(`the worker of queue ${queue} died: ${detail}`);
  });
  return told;
}

async function openKernelStage({
  queues,
  standIn,
  traffic,
  mode,
  tap,
  redirect,
}: TrafficStageOptions): Promise<TrafficStage> {
  return opening(async (opened) => {
    const lab = opened(await Lab.create({ queues, standIn }));
    const { nic } = lab;
    const port = opened(
      await openPort({
        ...{ netns: lab.guest, netvsc: nic.netvsc, force: true, queues, mode, tap, redirect },
        ...{ handler: handlerUrl('echo'), handlerOptions: { address: nic.guestAddress } },
      }),
    );
    return { port, nic, traffic: opened(await Traffic.start(lab, nic, traffic)) };
  });
}

async function openMemoryStage({ queues, traffic, mode }: TrafficStageOptions): Promise<TrafficStage> {
  return opening(async (opened) => {
    const port = opened(
      await openPort({
        ...{ network: 'memory', queues, mode },
        ...{ handler: handlerUrl('echo'), handlerOptions: { address: MemoryNic.guestAddress } },
      }),
    );
    const nic = new MemoryNic(port);
    const { shared, mac: guestMac } = port;
    const network = { shared, guestMac, dataPathSwitch: nic.dataPathSwitch.buffer };
    return { port, nic, traffic: opened(await Traffic.startInMemory(network, nic, traffic)) };
  });
}

/** Disposes what was opened in reverse order: at the end, or when opening the rest failed. */
async function opening<T>(
  open: (opened: <One extends AsyncDisposable>(one: One) => One) => Promise<T>,
): Promise<T & AsyncDisposable> {
  const all: AsyncDisposable[] = [];
  const dispose = async (): Promise<void> => {
    for (const one of all.toReversed()) await one[Symbol.asyncDispose]();
  };
  try {
    const parts = await open((one) => {
      all.push(one);
      return one;
    });
    return { ...parts, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
