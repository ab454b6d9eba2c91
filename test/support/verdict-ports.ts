/** Ports on the memory network whose handler does as each packet says, and what has to be asked of them. */
import { expect, onTestFinished } from 'vitest';
// Built, not source: Node 20 starts no worker from a .ts file.
import { type OpenPortsOptions, openPorts, type Port } from '../../dist/src/index.js';
import { addsUp } from './harness.ts';
import type { VerdictNetwork } from './verdict-network.ts';

const VERDICTS = new URL('../fixtures/handlers/verdicts.mjs', import.meta.url);

export async function openVerdictPorts(
  count: number,
  options: Partial<OpenPortsOptions> = {},
): Promise<Port[]> {
  const ports = await openPorts({
    ...{ network: 'memory', queues: 2, handler: VERDICTS, ...options },
    ports: Array.from({ length: count }, () => ({})),
  });
  onTestFinished(() => ports[0]!.close());
  for (const port of ports) port.on('error', () => {}); // what handlers throw is counted
  return ports;
}

export async function whole(port: Port): Promise<void> {
  for (const { total, accounted, duplicates } of await port.audit()) {
    expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
  }
}

/** Both ledgers of ports opened together. */
export async function ledgers(ports: readonly Port[]): Promise<void> {
  await whole(ports[0]!);
  for (const port of ports) await addsUp(port);
}

/**
 * Until everything is out: not after a time of silence alone, since a worker that is replaced, or gets no CPU,
 * may be silent for longer.
 */
export async function settled(network: VerdictNetwork): Promise<void> {
  await network.until('everything out', () => !network.waiting && network.ports.every(isQuiet));
  await network.settle();
}

function isQuiet(port: Port): boolean {
  return Object.values(port.stats().paths).every(
    ({ txPosted, txPackets, txErrors, txRetried, txRescued, txUnknown }) =>
      txPosted === txPackets + txErrors + txRetried + txRescued + txUnknown,
  );
}
