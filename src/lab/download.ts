/**
 * A TCP download by the guest of a lab: the guest's own kernel stack connects to a server of the outside host
 * and reads a stream whose every byte is checked, on one connection from beginning to end.
 *
 * This is the owner's handle on its two threads. Any thread may own one, and be as slow as it likes.
 */
import type { Worker } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import { type EndMessage, type EndOrder, PROGRESS_WORDS } from './download-ends.ts';
import { type DownloadReport, downloadReport, type ReceiverEnd, type SenderEnd } from './download-report.ts';
import { startThread, told } from './thread.ts';

export interface DownloadProgress {
  /** Payload that has arrived. */
  readonly bytes: number;
  readonly longestStallMillis: number;
}

/** The kernel sends a SYN again after one second, three and seven. */
const START_MILLIS = 10_000;
/** A thread that does not answer in this time beyond the settling is taken for dead. */
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
    this.#sent = told<EndMessage, 'sent'>(sender, 'sent').then(({ account }) => account);
    this.#received = told<EndMessage, 'received'>(receiver, 'received').then(({ account }) => account);
    // Nobody may be waiting when they fail; whoever stops the download meets the error all the same.
    this.#sent.catch(() => {});
    this.#received.catch(() => {});
  }

  /**
   * Resolves when the connection stands; data flows from then on, as fast as it can.
   *
   * @throws ERR_TIMEOUT or ERR_LAB when the guest does not reach the outside host, ERR_PERMISSION, or what
   *   ended a thread
   */
  static async start(
    lab: { readonly outside: string; readonly guest: string },
    nic: { readonly outsideAddress: string },
  ): Promise<Download> {
    const address = nic.outsideAddress;
    const start = (order: EndOrder): Worker => startThread('download', order);
    const progress = new SharedArrayBuffer(PROGRESS_WORDS * Float64Array.BYTES_PER_ELEMENT);
    const sender = start({ role: 'send', namespace: lab.outside, address });
    let receiver: Worker | undefined;
    try {
      const { port } = await told<EndMessage, 'listening'>(sender, 'listening');
      receiver = start({ role: 'receive', namespace: lab.guest, address, port, progress });
      const download = new Download(sender, receiver, progress);
      await within(START_MILLIS, 'connection to the outside host', download.#connected());
      return download;
    } catch (error) {
      await Promise.all([sender.terminate(), receiver?.terminate()]);
      throw error;
    }
  }

  /** Live, a read old; costs nothing to the download. */
  progress(): DownloadProgress {
    const [bytes, stall] = this.#progress;
    return { bytes: bytes!, longestStallMillis: stall! / 1e6 };
  }

  /**
   * Has the sender end the stream, waits until the receiver has all of it, reports. May be called again; the
   * first call's report stands. A connection that broke, or did not end, is a report and not an error.
   *
   * @param options.settleMillis how long the rest of the stream is waited for, by default 10,000
   * @throws ERR_TIMEOUT, or what ended a thread
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
      const accounts = Promise.all([this.#sent, this.#received]);
      return downloadReport(...(await within(settleMillis + ANSWER_MILLIS, 'end of the download', accounts)));
    } finally {
      await this.#end();
    }
  }

  async #connected(): Promise<void> {
    const failed = this.#received.then(({ error }) => {
      throw new TwinpathError('ERR_LAB', { detail: `the download did not begin: ${error}` });
    });
    await Promise.race([told<EndMessage, 'connected'>(this.#receiver, 'connected'), failed]);
  }

  async #end(): Promise<void> {
    await Promise.all([this.#sender.terminate(), this.#receiver.terminate()]);
  }
}

/** @throws ERR_TIMEOUT */
async function within<T>(millis: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new TwinpathError('ERR_TIMEOUT', { detail: `no ${what} within ${millis} ms` }));
    }, millis);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
