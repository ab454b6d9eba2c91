/**
 * A TCP download by the guest of a lab: the guest's own kernel stack connects to a server on the outside host and reads a
 * stream, of which every byte is checked, on one connection.
 *
 * A Download is the owner's handle of the two threads that do it. Any thread may own one; its speed does not matter.
 */
import type { Worker } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import { type EndConfig, type EndMessage, PROGRESS_WORDS } from './download-ends.ts';
import {
  type DownloadProgress,
  type DownloadReport,
  downloadReport,
  type ReceiverEnd,
  type SenderEnd,
} from './reports.ts';
import { firstMessage, startThread, within } from './threads.ts';

/** The kernel retransmits a SYN after one second, three and seven. */
const START_MILLIS = 10_000;
/** A thread that has not answered so long after the settling time counts as dead. */
const ANSWER_MILLIS = 10_000;

export class Download {
  readonly #sender: Worker;
  readonly #receiver: Worker;
  readonly #progress: Float64Array;
  readonly #sent: Promise<SenderEnd>;
  readonly #received: Promise<ReceiverEnd>;
  #report: Promise<DownloadReport> | undefined;

  private constructor(sender: Worker, receiver: Worker, progress: SharedArrayBuffer) {
    this.#sender = sender;
    this.#receiver = receiver;
    this.#progress = new Float64Array(progress);
    this.#sent = firstMessage<EndMessage, 'sent'>(sender, 'sent').then(({ result }) => result);
    this.#received = firstMessage<EndMessage, 'received'>(receiver, 'received').then(({ result }) => result);
    // They may fail while no caller waits. `stop` rejects with the error anyway.
    this.#sent.catch(() => {});
    this.#received.catch(() => {});
  }

  /**
   * Resolves when the connection is established. From then on data flows as fast as it can.
   *
   * @throws ERR_TIMEOUT or ERR_LAB if the guest does not reach the outside host, ERR_PERMISSION, or the error that ended a
   *   thread
   */
  static async start(
    lab: { readonly outside: string; readonly guest: string },
    nic: { readonly outsideAddress: string },
  ): Promise<Download> {
    const address = nic.outsideAddress;
    const start = (config: EndConfig): Worker => startThread('download', config);
    const progress = new SharedArrayBuffer(PROGRESS_WORDS * Float64Array.BYTES_PER_ELEMENT);
    const sender = start({ role: 'send', namespace: lab.outside, address });
    let receiver: Worker | undefined;
    try {
      const { port } = await firstMessage<EndMessage, 'listening'>(sender, 'listening');
      receiver = start({ role: 'receive', namespace: lab.guest, address, port, progress });
      const download = new Download(sender, receiver, progress);
      await within(START_MILLIS, 'connection to the outside host', download.#connected());
      return download;
    } catch (error) {
      await Promise.all([sender.terminate(), receiver?.terminate()]);
      throw error;
    }
  }

  /** As of the last read; costs the download nothing. */
  progress(): DownloadProgress {
    const [bytes, stall] = this.#progress;
    return { bytes: bytes!, longestStallMillis: stall! / 1e6 };
  }

  /**
   * Ends the stream, waits until the receiver has all of it, and reports. Further calls return the same report. If the
   * connection broke or did not end, the report says so; that is not an error.
   *
   * @param options.settleMillis how long to wait for the rest of the stream. Default 10,000
   * @throws ERR_TIMEOUT, or the error that ended a thread
   */
  stop({ settleMillis = 10_000 }: { settleMillis?: number } = {}): Promise<DownloadReport> {
    this.#report ??= this.#stop(settleMillis);
    return this.#report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#report) await this.#report.catch(() => {});
    else await this.#end();
  }

  async #stop(settleMillis: number): Promise<DownloadReport> {
    for (const end of [this.#sender, this.#receiver]) end.postMessage(settleMillis);
    try {
      const results = Promise.all([this.#sent, this.#received]);
      return downloadReport(...(await within(settleMillis + ANSWER_MILLIS, 'end of the download', results)));
    } finally {
      await this.#end();
    }
  }

  async #connected(): Promise<void> {
    const failed = this.#received.then(({ error }) => {
      throw new TwinpathError('ERR_LAB', { detail: `the download did not start: ${error}` });
    });
    await Promise.race([firstMessage<EndMessage, 'connected'>(this.#receiver, 'connected'), failed]);
  }

  async #end(): Promise<void> {
    await Promise.all([this.#sender.terminate(), this.#receiver.terminate()]);
  }
}
