/** `twinpath/metrics`: a port's counters for Prometheus, prom-client and OpenTelemetry, and its health. */
export { PortHealth } from './metrics/health.ts';
export { type OpenTelemetryMeter, observeIn } from './metrics/opentelemetry.ts';
export {
  type Labels,
  type MeasuredPort,
  type MetricFamily,
  type MetricSample,
  PortMetrics,
} from './metrics/port-metrics.ts';
export { type PromClientRegistry, registerIn } from './metrics/prom-client.ts';
export { prometheusText } from './metrics/prometheus.ts';
