/**
 * The frame ledgers of a port, or none when a worker does not answer (it may never come back from its handler) or the
 * port has closed by itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import type { FrameLedger } from '../group.ts';
import type { Port } from '../port.ts';

const ANSWER_MILLIS = 3000;

export async function auditFrames(port: Port): Promise<FrameLedger[]> {
  const answered = new AbortController();
  const late = sleep(ANSWER_MILLIS, [], { signal: answered.signal }).catch(() => []);
  const asked = port.audit().catch((error: unknown) => {
    if (error instanceof TwinpathError && error.code === 'ERR_PORT_CLOSED') return [];
    throw error;
  });
  const frames = await Promise.race([asked, late]);
  answered.abort();
  return frames;
}
