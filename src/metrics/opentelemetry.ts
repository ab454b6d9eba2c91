/**
 * A port's counters for OpenTelemetry, by the names of its semantic conventions for networks (`system.network.*`,
 * opentelemetry.io/docs/specs/semconv/system/system-metrics), with the path as one more attribute.
 */
import type { MeasuredPort } from './port-metrics.ts';

interface ObservableResult {
  observe(value: number, attributes?: Record<string, string>): void;
}

/** A meter of @opentelemetry/api, as far as it is used. */
export interface OpenTelemetryMeter {
  createObservableCounter(
    name: string,
    options: { unit: string; description: string },
  ): { addCallback(callback: (result: ObservableResult) => void): void };
}

/** Has a meter observe the ports until they close; a closed port keeps its last values. */
export function observeIn(meter: OpenTelemetryMeter, ports: readonly MeasuredPort[]): void {
  const each = (
    name: string,
    unit: string,
    description: string,
    observe: (result: ObservableResult, port: MeasuredPort, device: Record<string, string>) => void,
  ): void => {
    meter.createObservableCounter(name, { unit, description }).addCallback((result) => {
      for (const port of ports) observe(result, port, { 'network.interface.name': port.device });
    });
  };
  const traffic =
    (what: 'Packets' | 'Bytes') => (result: ObservableResult, port: MeasuredPort, device: object) => {
      for (const path of ['vf', 'synthetic'] as const) {
        const counted = port.stats().paths[path];
        for (const [direction, side] of [
          ['receive', 'rx'],
          ['transmit', 'tx'],
        ] as const)
          result.observe(counted[`${side}${what}`], {
            ...device,
            'network.io.direction': direction,
            'twinpath.path': path,
          });
      }
    };
  each('system.network.packet.count', '{packet}', 'Packets received and transmitted', traffic('Packets'));
  each('system.network.io', 'By', 'Bytes received, and given to a path to transmit', traffic('Bytes'));
  each('system.network.packet.dropped', '{packet}', 'Packets dropped, by reason', (result, port, device) => {
    for (const [reason, packets] of Object.entries(port.stats().dropped))
      result.observe(packets, { ...device, 'twinpath.reason': reason });
  });
}
