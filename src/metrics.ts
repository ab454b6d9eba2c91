/** `twinpath/metrics`: a port's counters for Prometheus, prom-client and OpenTelemetry, its health, and its live page. */
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
export { type PageOptions, type ServedPage, servePage } from './page/live-page.ts';
