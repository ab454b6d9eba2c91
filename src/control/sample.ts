/** The counters of all ports of a memory at one time, for those who make rates of them. Any thread. */
import { cpuNanosOf } from '../kernel/machine.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import { portStatistics } from '../statistics.ts';
import type { StatisticsSample } from './protocol.ts';

/** Reads the shared memory, and /proc for the CPU times: asks no other thread. */
export function sampleOf(memory: Memory): StatisticsSample {
  const { ports: count } = memory.layout.geometry;
  const ports = Array.from({ length: count }, (_, port) => portStatistics(memory, port));
  const cpuNanos = memory.workers.map(({ thread }) => cpuNanosOf(thread));
  return { nanos: nowNanos(), ports, cpuNanos };
}
