/** Metrics for an application that has a registry of prom-client (15). */
import type { Labels, PortMetrics } from './port-metrics.ts';

/** A registry of prom-client, as far as it is used. */
export interface PromClientRegistry {
  registerMetric(metric: never): void;
  removeSingleMetric(name: string): void;
}

/** A metric as prom-client's registry asks for it. */
interface PromClientMetric {
  readonly name: string;
  get(): Promise<{
    readonly name: string;
    readonly help: string;
    readonly type: string;
    readonly aggregator: 'sum';
    readonly values: readonly {
      readonly labels: Labels;
      readonly value: number;
      readonly metricName: string;
    }[];
  }>;
  reset(): void;
}

/**
 * Has a registry show the metrics of ports. They are counted by the ports: prom-client's `resetMetrics` does not change them.
 *
 * @returns a function that takes them out of the registry again
 * @throws Error if the registry has metrics of these names
 */
export function registerIn(registry: PromClientRegistry, ports: readonly PortMetrics[]): () => void {
  const names = [...new Set(ports.flatMap((port) => port.families().map(({ name }) => name)))];
  for (const name of names) {
    const metric: PromClientMetric = {
      name,
      get: async () => {
        const same = ports.flatMap((port) => port.families().filter((family) => family.name === name));
        const { help, type } = same[0]!;
        const samples = same.flatMap((family) => family.samples);
        const values = samples.map(({ labels, value, suffix = '' }) => ({
          ...{ labels, value },
          metricName: `${name}${suffix}`,
        }));
        return { name, help, type, aggregator: 'sum', values };
      },
      reset: () => {},
    };
    registry.registerMetric(metric as never);
  }
  return () => {
    for (const name of names) registry.removeSingleMetric(name);
  };
}
