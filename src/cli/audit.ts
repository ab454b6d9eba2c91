/** The frame ledgers of a port, or none when a worker does not answer: it may never come back from its handler. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FrameLedger } from '../group.ts';
import type { Port } from '../port.ts';

const ANSWER_MILLIS = 3000;

export async function audited(port: Port): Promise<FrameLedger[]> {
  const answered = new AbortController();
  const late = sleep(ANSWER_MILLIS, [], { signal: answered.signal }).catch(() => []);
  const frames = await Promise.race([port.audit(), late]);
  answered.abort();
  return frames;
}
