/**
 * The second act of a demo: the guest's own kernel downloads something by TCP, through a port that stands in the
 * way of its stack, while the VF comes and goes under the connection.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { nowNanos } from '../memory/shared.ts';
import type { Port } from '../port.ts';
import { auditFrames } from './audit.ts';
import type { CommandContext } from './command.ts';
import { perform } from './demo-script.ts';
import { PANEL_MILLIS, Show, type View } from './demo-show.ts';
import { type DownloadStage, openDownloadStage, type StageOptions, troubles } from './demo-stage.ts';
import type { DownloadEvidence } from './download-ledger.ts';
import { type DownloadMoment, downloadLine, downloadPanel } from './download-text.ts';
import { imbalances } from './imbalances.ts';
import type { RateSample } from './rate-chart.ts';
import type { Terminal } from './terminal.ts';

/** Half of the first act's time, within bounds: three cycles need the least, nobody watches for longer. */
export function downloadSeconds(seconds: number): number {
  return Math.min(MAX_SECONDS, Math.max(MIN_SECONDS, seconds / 2));
}

export const MIN_SECONDS = 4;
export const MAX_SECONDS = 30;
/** The last acknowledgements are on their way out when the connection has ended. */
const SETTLE_MILLIS = 2000;

/**
 * @returns what is known at the end; nothing when it was interrupted
 * @throws what stage, script and download throw; the stage is gone then
 */
export async function playDownload(
  options: StageOptions,
  seconds: number,
  { terminal, interruption }: CommandContext,
): Promise<DownloadEvidence | undefined> {
  const stage = await openDownloadStage(options);
  try {
    const { port, nic, download } = stage;
    const errors = troubles(port);
    const recorder = new RateRecorder(stage);
    const show = new Show(stage, terminal, new DownloadView(stage, recorder, seconds));
    const { cycles, windows } = await perform(stage, seconds, interruption.signal, (step) =>
      show.step(step),
    ).finally(() => {
      show.end();
      recorder.end();
    });
    if (interruption.signal.aborted) return undefined;

    const report = await download.stop();
    await settled(port);
    const frames = await auditFrames(port);
    return {
      ...{ download: report, samples: recorder.samples, seconds, cycles, windows, frames, errors },
      ...{ events: nic.events, statistics: port.stats(), failovers: port.failovers() },
    };
  } finally {
    await stage[Symbol.asyncDispose]();
  }
}

/** Until nothing is under way, as far as the counters tell; what then does not add up is a finding. */
async function settled(port: Port): Promise<void> {
  const deadline = nowNanos() + SETTLE_MILLIS * 1e6;
  while (imbalances(port.stats()).length > 0 && nowNanos() < deadline) await sleep(5);
}

/** Looks at a download ten times a second, whoever watches. */
class RateRecorder {
  readonly samples: RateSample[] = [];
  readonly #stage: DownloadStage;
  readonly #timer: NodeJS.Timeout;
  #before: ReturnType<RateRecorder['look']>;

  constructor(stage: DownloadStage) {
    this.#stage = stage;
    this.#before = this.look();
    this.#timer = setInterval(() => this.#sample(), PANEL_MILLIS);
  }

  look(): { nanos: number; bytes: number; vf: number; synthetic: number } {
    const { paths } = this.#stage.port.stats();
    const [vf, synthetic] = [paths.vf.rxBytes, paths.synthetic.rxBytes];
    return { nanos: nowNanos(), bytes: this.#stage.download.progress().bytes, vf, synthetic };
  }

  end(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const [before, now] = [this.#before, this.look()];
    this.#before = now;
    const [vf, synthetic] = [now.vf - before.vf, now.synthetic - before.synthetic];
    this.samples.push({
      millis: Math.round((now.nanos - before.nanos) / 1e6),
      bytes: now.bytes - before.bytes,
      path: vf + synthetic === 0 ? 'none' : vf > synthetic ? 'vf' : 'synthetic',
    });
  }
}

class DownloadView implements View {
  readonly #stage: DownloadStage;
  readonly #recorder: RateRecorder;
  readonly #of: number;

  constructor(stage: DownloadStage, recorder: RateRecorder, of: number) {
    this.#stage = stage;
    this.#recorder = recorder;
    this.#of = of;
  }

  panel(seconds: number, failovers: number, terminal: Terminal): readonly string[] {
    return downloadPanel({ ...this.#moment(seconds), failovers }, terminal);
  }

  line(seconds: number): string {
    return downloadLine(this.#moment(seconds));
  }

  #moment(seconds: number): DownloadMoment {
    const { nic, download } = this.#stage;
    const { samples } = this.#recorder;
    return { seconds, of: this.#of, vf: nic.vf, progress: download.progress(), samples };
  }
}
