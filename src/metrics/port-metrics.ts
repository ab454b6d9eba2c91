/**
 * A port's counters as metrics, in the terms of Prometheus: families of samples with labels. The adapters beside this file hand
 * them to Prometheus, to prom-client and to OpenTelemetry. Counters are read when they are asked for; only failovers are counted
 * as they happen. Belongs to the thread that opened the port.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Failover } from '../memory/journal.ts';
import type { Port } from '../port.ts';
import { losses, type PathKey, type PortStatistics } from '../statistics.ts';

export type Labels = Readonly<Record<string, string>>;

export interface MetricSample {
  readonly labels: Labels;
  readonly value: number;
  /** Of a histogram's samples: what follows the family's name. */
  readonly suffix?: '_bucket' | '_sum' | '_count';
}

export interface MetricFamily {
  /** As Prometheus names them: base units, `_total` for counters. */
  readonly name: string;
  /** A sentence without a full stop. */
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly MetricSample[];
}

/** What metrics need of a port. */
export type MeasuredPort = Pick<Port, 'device' | 'stats' | 'paths' | 'link' | 'failovers' | 'on' | 'off'>;

/** Upper bounds of the buckets of switch times, in seconds. */
const BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1];

const PATHS = ['vf', 'synthetic', 'host'] as const satisfies readonly PathKey[];

export class PortMetrics {
  /** Times of switches in nanoseconds: from the moment its cause was known until a queue had changed its path. */
  readonly switchNanos: RecordableHistogram = createHistogram();
  readonly #port: MeasuredPort;
  readonly #listener = (failover: Failover): void => this.#count(failover);
  /** By from, to and reason. */
  readonly #failovers = new Map<string, { labels: Labels; value: number }>();
  readonly #buckets = BUCKETS.map(() => 0);
  /** Sequence number of the next failover: one in the journal may come as an event too. */
  #next = 0;
  #switches = 0;
  #seconds = 0;

  constructor(port: MeasuredPort) {
    this.#port = port;
    for (const failover of port.failovers()) this.#count(failover);
    port.on('path', this.#listener);
  }

  /** Stops counting failovers. */
  close(): void {
    this.#port.off('path', this.#listener);
  }

  /** The present values, the same families in every call. */
  families(): MetricFamily[] {
    const { device, paths, link } = this.#port;
    const stats = this.#port.stats();
    const port: Labels = { port: device };
    const counter = (name: string, help: string, samples: readonly MetricSample[]): MetricFamily => ({
      ...{ name, help, samples },
      type: 'counter',
    });
    const gauge = (name: string, help: string, samples: readonly MetricSample[]): MetricFamily => ({
      ...{ name, help, samples },
      type: 'gauge',
    });
    return [
      counter('twinpath_packets_total', 'Packets received and transmitted', traffic(stats, port, 'Packets')),
      counter(
        'twinpath_bytes_total',
        'Bytes received, and given to a path to transmit',
        traffic(stats, port, 'Bytes'),
      ),
      counter(
        'twinpath_dropped_packets_total',
        'Packets dropped, by reason',
        Object.entries(losses(stats)).map(([reason, value]) => ({ labels: { ...port, reason }, value })),
      ),
      counter('twinpath_handler_errors_total', 'Exceptions that the handler threw', [
        { labels: port, value: stats.handlerErrors },
      ]),
      counter('twinpath_handed_over_packets_total', 'Packets that one worker handed to another', [
        { labels: port, value: stats.handedOver },
      ]),
      counter(
        'twinpath_delivered_packets_total',
        'Packets delivered to the application, by what the handler said',
        [
          { labels: { ...port, verdict: 'deliver' }, value: stats.delivered - stats.teed },
          { labels: { ...port, verdict: 'tee' }, value: stats.teed },
        ],
      ),
      counter(
        'twinpath_messages_refused_total',
        'Messages that the handler could not send to the application',
        [{ labels: port, value: stats.messagesRefused }],
      ),
      counter(
        'twinpath_failovers_total',
        'Queues that changed the path they transmit on',
        [...this.#failovers.values()].map(({ labels, value }) => ({ labels: { ...port, ...labels }, value })),
      ),
      {
        name: 'twinpath_failover_seconds',
        help: 'Time from the moment a cause was known until a queue had changed its path',
        type: 'histogram',
        samples: this.#histogram(port),
      },
      gauge(
        'twinpath_path_up',
        'Whether the path is open',
        PATHS.map((path) => ({ labels: { ...port, path }, value: paths[path] === undefined ? 0 : 1 })),
      ),
      gauge('twinpath_link_up', 'Whether the port has a link', [{ labels: port, value: link.up ? 1 : 0 }]),
      gauge(
        'twinpath_queue_owner',
        'Whether the queue transmits on the path',
        stats.queues.flatMap(({ queue, owner }) =>
          (['vf', 'synthetic'] as const).map((path) => ({
            labels: { ...port, queue: String(queue), path },
            value: owner === path ? 1 : 0,
          })),
        ),
      ),
    ];
  }

  #count({ sequence, from, to, reason, detectedNanos, endedNanos }: Failover): void {
    if (sequence < this.#next) return;
    this.#next = sequence + 1;
    const key = `${from} ${to} ${reason}`;
    const counted = this.#failovers.get(key) ?? { labels: { from, to, reason }, value: 0 };
    this.#failovers.set(key, counted);
    counted.value++;
    const nanos = Math.max(1, Math.round(endedNanos - detectedNanos));
    this.switchNanos.record(nanos);
    this.#switches++;
    this.#seconds += nanos / 1e9;
    BUCKETS.forEach((bound, i) => {
      if (nanos / 1e9 <= bound) this.#buckets[i]!++;
    });
  }

  #histogram(labels: Labels): MetricSample[] {
    return [
      ...BUCKETS.map((bound, i) => ({
        ...{ suffix: '_bucket' as const, value: this.#buckets[i]! },
        labels: { ...labels, le: String(bound) },
      })),
      { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: this.#switches },
      { suffix: '_sum', labels, value: this.#seconds },
      { suffix: '_count', labels, value: this.#switches },
    ];
  }
}

function traffic({ queues }: PortStatistics, port: Labels, what: 'Packets' | 'Bytes'): MetricSample[] {
  return queues.flatMap(({ queue, paths }) =>
    PATHS.flatMap((path) =>
      (['receive', 'transmit'] as const).map((direction) => ({
        labels: { ...port, queue: String(queue), path, direction },
        value: paths[path][`${direction === 'receive' ? 'rx' : 'tx'}${what}`],
      })),
    ),
  );
}
