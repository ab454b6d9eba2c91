/** The first act of a demo: numbered packets that a handler answers, while the VF comes and goes. */
import { nowNanos } from '../memory/shared.ts';
import { auditFrames } from './audit.ts';
import type { CommandContext } from './command.ts';
import type { Evidence } from './demo-ledger.ts';
import { perform } from './demo-script.ts';
import { Show, type View } from './demo-show.ts';
import { openTrafficStage, type TrafficStage, type TrafficStageOptions, troubles } from './demo-stage.ts';
import { type Moment, panelLines, progressLine } from './demo-text.ts';
import type { Terminal } from './terminal.ts';

/** With something lost, stragglers are waited for this long. */
const SETTLE_MILLIS = 700;

/**
 * @returns what is known at the end; nothing when it was interrupted
 * @throws what stage, script and traffic throw; the stage is gone then
 */
export async function playTraffic(
  options: TrafficStageOptions,
  seconds: number,
  { terminal, interruption }: CommandContext,
): Promise<Omit<Evidence, 'download'> | undefined> {
  const stage = await openTrafficStage(options);
  try {
    const { port, nic, traffic } = stage;
    const errors = troubles(port);
    const show = new Show(stage, terminal, new TrafficView(stage, seconds));
    const { cycles, windows } = await perform(stage, seconds, interruption.signal, (step) =>
      show.step(step),
    ).finally(() => show.end());
    if (interruption.signal.aborted) return undefined;

    const report = await traffic.stop({ settleMillis: SETTLE_MILLIS });
    const frames = await auditFrames(port);
    return {
      ...{ network: options.network, privileged: options.network === 'kernel', seconds, cycles, windows },
      ...{ traffic: report, frames, errors, events: nic.events },
      ...{ statistics: port.stats(), failovers: port.failovers() },
    };
  } finally {
    await stage[Symbol.asyncDispose]();
  }
}

class TrafficView implements View {
  readonly #stage: TrafficStage;
  readonly #of: number;
  #before = { nanos: nowNanos(), received: [] as readonly number[] };

  constructor(stage: TrafficStage, of: number) {
    this.#stage = stage;
    this.#of = of;
  }

  panel(seconds: number, failovers: number, terminal: Terminal): readonly string[] {
    return panelLines({ ...this.#moment(seconds), failovers }, terminal);
  }

  line(seconds: number): string {
    return progressLine(this.#moment(seconds));
  }

  #moment(seconds: number): Moment {
    const { port, nic, traffic } = this.#stage;
    const statistics = port.stats();
    const before = this.#before;
    const received = statistics.queues.map(({ paths }) => paths.vf.rxPackets + paths.synthetic.rxPackets);
    this.#before = { nanos: nowNanos(), received };
    const passed = (this.#before.nanos - before.nanos) / 1e9;
    return {
      ...{ seconds, of: this.#of, vf: nic.vf, progress: traffic.progress(), statistics },
      rates: received.map((now, i) => (now - (before.received[i] ?? 0)) / passed),
    };
  }
}
