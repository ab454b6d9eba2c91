/** A lab's host plugs in and unplugs the VF, and the port follows. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostNic } from '../lab/nic.ts';
import { until } from '../lab/wait.ts';
import type { Port } from '../port.ts';

const SWITCH_MILLIS = 10_000;

export interface PortOnNic {
  readonly port: Port;
  readonly nic: HostNic;
}

/** Resolves when every queue of the port transmits on the path. @throws ERR_TIMEOUT after ten seconds */
export function switched(port: Port, path: 'vf' | 'synthetic'): Promise<void> {
  return until(`switch of every queue to the path ${path}`, SWITCH_MILLIS, () =>
    port.stats().queues.every(({ owner }) => owner === path),
  );
}

/** Plugs in a VF, and moves the data path to it as soon as the port transmits on it. @throws ERR_TIMEOUT, ERR_LAB */
export async function plugVf({ port, nic }: PortOnNic, name?: string): Promise<void> {
  await nic.plug({ name });
  await switched(port, 'vf');
  await nic.moveDataPath('vf');
}

/** Unplugs the VF without loss. @throws ERR_TIMEOUT, ERR_LAB */
export async function unplugVf({ port, nic }: PortOnNic): Promise<void> {
  await nic.unplug();
  await switched(port, 'synthetic');
}

/** Unplugs the VF and plugs it in again, each for so many seconds, until the signal aborts. @throws ERR_TIMEOUT */
export async function cycleVf(pair: PortOnNic, seconds: number, signal: AbortSignal): Promise<void> {
  for (let pluggedIn = true; ; pluggedIn = !pluggedIn) {
    await sleep(seconds * 1000, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    await (pluggedIn ? unplugVf(pair) : plugVf(pair));
  }
}
