/** The live page: takes what the server sends, and draws one of its ports. */
import type { Owner } from '../messages.ts';
import { Connection, type ConnectionState } from './connection.ts';
import { FailoverList } from './failover-list.ts';
import { FailoverZoom } from './failover-zoom.ts';
import { showCards, showDrops, showIdentity, showProblems, showQueues } from './figures.ts';
import { OwnerStrip } from './owner-strip.ts';
import { type Direction, flowIndex, PATHS, RateChart } from './rate-chart.ts';
import { Store } from './store.ts';
import { byId, html, setText } from './svg.ts';
import { groupSwitches, isFailover, isStart, type Switch } from './switches.ts';
import { PATH_LABEL } from './theme.ts';
import type { ChartEvents } from './time-chart.ts';
import { clockText, type RateUnit, rateText } from './units.ts';

const STATES: Readonly<Record<ConnectionState, string>> = {
  connecting: 'Connecting',
  live: 'Live',
  lost: 'Connection lost, retrying',
  closed: 'The port was closed, retrying',
};

class Page {
  readonly #store = new Store();
  #port = 0;
  #unit: RateUnit = 'pps';
  /** Seconds that the charts show. */
  #window = 120;
  /** The failover that is zoomed into; undefined: the last one. */
  #selected: string | undefined;
  /** The sample under the pointer; undefined: the last one. */
  #pointed: number | undefined;
  #switches: readonly Switch[] = [];
  readonly #events: ChartEvents = {
    point: (index) => {
      this.#pointed = index;
      this.#showLegend();
    },
    pick: (at, tolerance) => this.#pick(at, tolerance),
  };
  readonly #rates: Readonly<Record<Direction, RateChart>> = {
    in: new RateChart(byId('chart-in'), 'in', this.#events),
    out: new RateChart(byId('chart-out'), 'out', this.#events),
  };
  readonly #owners = new OwnerStrip(byId('chart-owners'), this.#events);
  readonly #list = new FailoverList(byId('failovers'), byId('no-failovers'), (key) => this.#select(key));
  readonly #zoom = new FailoverZoom(byId('zoom'));

  constructor() {
    new Connection({
      hello: (hello) => {
        this.#store.greet(hello);
        if (!hello.resumed) this.#selected = undefined;
      },
      update: (update) => {
        this.#store.update(update);
        this.#draw();
      },
      state: (state) => this.#showState(state),
    });
    this.#choose('unit', (value) => {
      this.#unit = value as RateUnit;
    });
    this.#choose('window', (value) => {
      this.#window = Number(value);
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      for (const chart of [this.#rates.in, this.#rates.out, this.#owners]) chart.rebuild();
      this.#draw();
    });
    document.addEventListener('visibilitychange', () => this.#draw());
  }

  #choose(name: string, take: (value: string) => void): void {
    for (const input of document.querySelectorAll<HTMLInputElement>(`input[name=${name}]`)) {
      if (input.checked) take(input.value);
      input.addEventListener('change', () => {
        take(input.value);
        this.#draw();
      });
    }
  }

  #showState(state: ConnectionState): void {
    setText(byId('connection'), STATES[state]);
    document.body.dataset.connection = state;
  }

  #draw(): void {
    const { ports, samples, nowNanos } = this.#store;
    if (document.hidden || ports.length === 0 || samples.length === 0) return;
    if (this.#port >= ports.length) this.#port = 0;
    const port = ports[this.#port]!;
    const records = this.#store.switches.filter((record) => record.port === this.#port);
    this.#switches = groupSwitches(records).filter((one) => !isStart(one));
    this.#showTabs();
    showIdentity(port, this.#store);
    showProblems(port);
    showCards(port, samples.at(-1)!.ports[this.#port], this.#switches, this.#store);
    showQueues(port);
    showDrops(port);

    const selected = this.#zoomed;
    this.#list.show(this.#switches, selected?.key, this.#store);
    this.#zoom.show(selected, this.#store);

    const secondsOf = (nanos: number): number => this.#store.wallMillis(nanos) / 1000;
    const now = secondsOf(nowNanos);
    const range = [now - this.#window, now] as const;
    const marks = this.#switches
      .filter(isFailover)
      .map(({ key, endedNanos }) => ({ at: secondsOf(endedNanos), selected: key === selected?.key }));
    const seconds = samples.map(({ nanos }) => secondsOf(nanos));
    for (const direction of ['in', 'out'] as const)
      this.#rates[direction].show(samples, this.#port, seconds, this.#unit, range, marks);
    const owners = port.queues.map(({ owner }) => owner as Owner);
    this.#owners.show({ now: owners, switches: records, nowNanos, secondsOf }, range, marks, seconds);
    this.#showLegend();
  }

  /** The failover that was picked, or else the last one. */
  get #zoomed(): Switch | undefined {
    const picked = this.#switches.find(({ key }) => key === this.#selected);
    return picked ?? this.#switches.findLast(isFailover) ?? this.#switches.at(-1);
  }

  #select(key: string): void {
    this.#selected = this.#selected === key ? undefined : key;
    this.#draw();
  }

  /** The failover that is nearest to a place in a chart. */
  #pick(at: number, tolerance: number): void {
    const away = ({ endedNanos }: Switch): number => Math.abs(this.#store.wallMillis(endedNanos) / 1000 - at);
    const nearest = this.#switches
      .filter((one) => isFailover(one) && away(one) <= tolerance)
      .sort((a, b) => away(a) - away(b))[0];
    if (nearest === undefined) return;
    this.#selected = nearest.key;
    this.#draw();
  }

  /** The rates at the pointer, or the present ones. */
  #showLegend(): void {
    const { samples } = this.#store;
    const sample = samples[this.#pointed ?? -1] ?? samples.at(-1);
    const port = sample?.ports[this.#port];
    if (sample === undefined || port === undefined) return;
    setText(
      byId('legend-time'),
      this.#pointed === undefined ? 'now' : `at ${clockText(this.#store.wallMillis(sample.nanos))}`,
    );
    for (const direction of ['in', 'out'] as const) {
      for (const path of PATHS) {
        const value = port[path][flowIndex(direction, this.#unit)];
        setText(byId(`legend-${direction}-${path}`), `${PATH_LABEL[path]} ${rateText(value, this.#unit)}`);
      }
    }
  }

  /** With several ports: one button for each. */
  #showTabs(): void {
    const tabs = byId('ports');
    const { ports } = this.#store;
    tabs.hidden = ports.length < 2;
    if (tabs.hidden) return;
    const names = ports.map(({ device }) => device);
    if ([...tabs.children].map(({ textContent }) => textContent).join() !== names.join())
      tabs.replaceChildren(
        ...names.map((name, number) => {
          const button = html('button', { type: 'button' }, name);
          button.addEventListener('click', () => {
            this.#port = number;
            this.#selected = undefined;
            this.#draw();
          });
          return button;
        }),
      );
    [...tabs.children].forEach((button, number) => {
      button.setAttribute('aria-pressed', String(number === this.#port));
    });
  }
}

new Page();
