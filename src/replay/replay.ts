/**
 * The replay of a capture file, as the application's thread sees it: starts the thread, and finds out when every packet of the
 * file has been dealt with. Belongs to the thread that opened the ports.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type Completion, complete, newCompletion, waitForCompletion } from '../coordinator/completion.ts';
import { LOADING_MILLIS } from '../coordinator/loading.ts';
import { threadEnvironment } from '../coordinator/thread-environment.ts';
import { workerFile } from '../coordinator/worker-file.ts';
import { TwinpathError } from '../errors.ts';
import type { FrameLedger, Group } from '../group.ts';
import type { ReplaySettings } from '../replay-settings.ts';
import { startFailure } from '../start-failure.ts';
import { type PortStatistics, portStatistics } from '../statistics.ts';
import {
  type Played,
  type PlayMessage,
  type ReplayData,
  type ReplayMessage,
  ReplayWords,
} from './messages.ts';

export type { Played };

type Through = Extract<ReplayMessage, { kind: 'through' }>;

/** What became of a capture file's packets. */
export interface ReplayReport extends Played {
  /** Packets that came in and that the port has not received: they were in a VF that was unplugged. */
  readonly lost: number;
  /** Packets that the ports have sent: they are in the file, if one was asked for. */
  readonly sent: number;
}

/** Between two questions to the workers. */
const ASK_MILLIS = 1;

/**
 * The threads that load. They are started before there is a group that counts them, and a process that exits waits for them as for
 * a group's: see coordinator/loading.ts.
 */
const loading = new Set<Completion>();

function exiting(): void {
  for (const loaded of loading) waitForCompletion(loaded, LOADING_MILLIS);
}

function beginLoading(): Completion {
  const loaded = newCompletion();
  if (loading.size === 0) process.on('exit', exiting);
  loading.add(loaded);
  return loaded;
}

/** The thread has loaded, or has exited. May be called again. */
function endLoading(loaded: Completion): void {
  complete(loaded);
  if (loading.delete(loaded) && loading.size === 0) process.off('exit', exiting);
}

export class Replay {
  /** Settles when the file is through and each of its packets is accounted for, or that cannot be any more. */
  readonly done: Promise<ReplayReport>;
  readonly #words = new ReplayWords();
  readonly #thread: Worker;
  readonly #ended: Promise<void>;
  readonly #ports: number;
  readonly #opened: Promise<void>;
  #group: Group | undefined;
  #reject!: (error: Error) => void;
  #opens!: () => void;
  #flushed = (): void => {};

  private constructor(settings: ReplaySettings, ports: number) {
    this.#ports = ports;
    const loaded = beginLoading();
    const workerData: ReplayData = { settings, ports, words: this.#words.buffer, loaded };
    try {
      this.#thread = new Worker(workerFile('replay'), {
        ...{ workerData, name: 'twinpath replay', env: threadEnvironment() },
      });
    } catch (error) {
      endLoading(loaded);
      throw error;
    }
    let through!: (message: Through) => void;
    const last = new Promise<Through>((resolve) => {
      through = resolve;
    });
    const failed = new Promise<never>((_, reject) => {
      this.#reject = reject;
    });
    this.#opened = Promise.race([
      new Promise<void>((resolve) => {
        this.#opens = resolve;
      }),
      failed,
    ]);
    this.done = Promise.race([last.then((message) => this.#settle(message)), failed]);
    this.done.catch(() => {}); // whoever asks gets it
    this.#thread.on('message', (message: ReplayMessage) => {
      endLoading(loaded);
      if (message.kind === 'opened') this.#opens();
      else if (message.kind === 'through') through(message);
      else if (message.kind === 'flushed') this.#flushed();
      else this.#reject(TwinpathError.from(message.error));
    });
    this.#thread.on('error', (error) => {
      const detail = `the replay's thread died: ${error.message}`;
      this.#reject(startFailure(error) ?? new TwinpathError('ERR_WORKER', { detail }));
    });
    this.#ended = new Promise((resolve) => {
      this.#thread.once('exit', () => {
        endLoading(loaded);
        this.#reject(new TwinpathError('ERR_PORT_CLOSED')); // unless it has settled
        resolve();
      });
    });
  }

  /**
   * Starts the thread and opens the files.
   *
   * @throws ERR_CAPTURE_FILE; ERR_OPTION_INVALID if one file is both
   */
  static async open(settings: ReplaySettings, ports: number): Promise<Replay> {
    const replay = new Replay(settings, ports);
    try {
      await replay.#opened;
    } catch (error) {
      await replay.stop();
      throw error;
    }
    return replay;
  }

  /** Plays into the ports of the group, which are open. */
  start(group: Group): void {
    this.#group = group;
    this.#thread.postMessage({ shared: group.memory.shared } satisfies PlayMessage);
  }

  /** Whether the application reads what a port delivers. The file is played into the first one. */
  setReading(port: number, reads: boolean): void {
    if (port === 0) this.#words.reading = reads;
  }

  /** Ends the thread, and closes the files. Before the replay is done, it then never is. May be called again. */
  async stop(): Promise<void> {
    this.#words.stop();
    if (this.#group === undefined) await this.#thread.terminate();
    await this.#ended;
  }

  /**
   * Waits until no packet is under way. Each worker says, between two rounds, where its frames are. When none is received and not
   * dealt with, and none has moved from worker to worker between two such answers, what is to be sent is in the rings that
   * the thread empties.
   */
  async #settle({ played, error }: Through): Promise<ReplayReport> {
    const group = this.#group!;
    for (let last: string | undefined; ; ) {
      const ledgers = await group.audit();
      const moved = isQuiet(ledgers) ? movesOf(ledgers) : undefined;
      if (moved !== undefined && moved === last) break;
      last = moved;
      await sleep(ASK_MILLIS);
    }
    let all: PortStatistics[];
    for (;;) {
      // Anew each time: of a VF that is unplugged meanwhile, packets are not to be collected any more.
      all = Array.from({ length: this.#ports }, (_, port) => portStatistics(group.memory, port));
      const posted = all.reduce((sum, port) => sum + toCollect(port), 0);
      if (this.#words.collected >= posted || this.#words.stopped) break;
      await sleep(ASK_MILLIS);
    }
    const flushed = new Promise<void>((resolve) => {
      this.#flushed = resolve;
    });
    this.#words.orderFlush();
    await flushed;
    if (error !== undefined) throw TwinpathError.from(error);
    const [{ received }] = all as [PortStatistics];
    return { ...played, lost: played.played - received, sent: this.#words.collected };
  }
}

const isQuiet = (ledgers: readonly FrameLedger[]): boolean =>
  ledgers.every(({ rx, inHand }) => rx === 0 && inHand === 0);

const movesOf = (ledgers: readonly FrameLedger[]): string =>
  JSON.stringify(ledgers.map(({ lent, borrowed }) => [lent, borrowed]));

/** Packets that the port gave to its paths and did not take back. */
function toCollect({ paths }: PortStatistics): number {
  return [paths.synthetic, paths.vf].reduce(
    (sum, { txPosted, txErrors, txRetried, txRescued, txUnknown }) =>
      sum + txPosted - txErrors - txRetried - txRescued - txUnknown,
    0,
  );
}
