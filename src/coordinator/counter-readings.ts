/**
 * Reads what the devices of a port count. The application's thread adds the readings up (extended-statistics.ts). Takes RTNL,
 * and some drivers ask their firmware. Coordinator thread only.
 */
import type { CounterReadings } from '../kernel/device-counters.ts';
import { Path, type PathId } from '../memory/layout.ts';
import type { PortState } from './port-state.ts';
import type { Slot } from './slot.ts';

/** @throws ERR_KERNEL */
export function readCounters(state: PortState): CounterReadings {
  state.counting = true;
  const read = (path: PathId) => state.network.counters?.(path);
  const { filtered } = state.network.macFilter ?? {};
  return { synthetic: read(Path.SYNTHETIC), vf: read(Path.VF), filtered };
}

/** A VF that is closed may be about to leave: reports its last reading, if the application has ever asked for one. */
export function reportLastReading({ counting, network, port, report }: PortState, slot: Slot): void {
  if (!counting || slot.path !== Path.VF) return;
  const vf = network.counters?.(slot.path);
  if (vf?.key !== slot.key) return; // it has left, or another one is there already
  report({ kind: 'counted', event: { port, readings: { synthetic: undefined, vf } } });
}
