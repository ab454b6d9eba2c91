/** What a worker does when idle, of the modes of its ports. Pure. */
import type { IdleMode, PortConfiguration } from '../configuration.ts';

/** A port as far as idle workers depend on it. */
export interface PortIdle extends Pick<PortConfiguration, 'queues' | 'started'> {
  readonly mode: IdleMode;
}

/** The first of these that one of the worker's ports asks for. */
const MOST_AWAKE = ['poll', 'adaptive', 'interrupt'] as const;

/**
 * A worker serves its queue of several ports with one loop, so the port that is to wait least decides. A port whose queue is
 * stopped, or which is not started, does not count: a worker without any port sleeps at once.
 */
export function idleModeOf(ports: readonly PortIdle[], queue: number): IdleMode {
  const asked = ports
    .filter(({ started, queues }) => started && (queues === null || queues.includes(queue)))
    .map(({ mode }) => mode);
  return MOST_AWAKE.find((mode) => asked.includes(mode)) ?? 'interrupt';
}
