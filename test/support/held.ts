/** A port in a process of its own, to be killed: fixtures/held-port.mjs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ConfigurationChange } from '../../dist/src/configuration.js';
import { endWithTest } from './children.ts';
import { type Lab, until } from './harness.ts';

const FIXTURE = fileURLToPath(new URL('../fixtures/held-port.mjs', import.meta.url));

/** The port's process, and what that said. */
export interface Held {
  readonly child: ChildProcess;
  readonly said: () => string;
}

/** With the echo handler, or in that host mode with the one that leaves everything to the machine; on one card alone if asked. */
export async function hold(
  lab: Lab,
  {
    redirect = 'tcx',
    host,
    alone = false,
    configuration = {},
  }: {
    redirect?: 'tcx' | 'clsact';
    host?: 'ingress' | 'inline';
    alone?: boolean;
    configuration?: ConfigurationChange;
  } = {},
): Promise<Held> {
  const { netvsc, guestAddress } = lab.nic;
  const devices = alone ? 'alone' : 'pair';
  const json = JSON.stringify(configuration);
  const parameters = [lab.guest, netvsc, guestAddress, redirect, devices, host ?? '', json];
  const child = spawn(process.execPath, [FIXTURE, ...parameters], { stdio: ['ignore', 'pipe', 'inherit'] });
  endWithTest(child);
  let text = '';
  child.stdout!.on('data', (data) => {
    text += data;
  });
  await until('the port open', () => text.includes('open\n'));
  return { child, said: () => text };
}

export async function kill({ child }: Held): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
