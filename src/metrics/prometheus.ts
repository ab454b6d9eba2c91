/** Metrics as text for Prometheus: version 0.0.4 of its exposition format (prometheus.io/docs/instrumenting/exposition_formats). Pure. */
import type { Labels, MetricFamily } from './port-metrics.ts';

export const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** @param ports the families of each port; families of one name are shown together, as the format requires */
export function prometheusText(ports: readonly (readonly MetricFamily[])[]): string {
  const names = new Set(ports.flatMap((families) => families.map(({ name }) => name)));
  let text = '';
  for (const name of names) {
    const same = ports.flatMap((families) => families.filter((family) => family.name === name));
    const [{ help, type }] = same as [MetricFamily];
    text += `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`;
    for (const { labels, value, suffix = '' } of same.flatMap(({ samples }) => samples)) {
      text += `${name}${suffix}${labelText(labels)} ${value}\n`;
    }
  }
  return text;
}

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(
    ([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`,
  );
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
