/** Threads of a lab as their owner has them: one worker, started from `workers/`, that tells a few things. */
import { Worker } from 'node:worker_threads';
import { threadEnvironment } from '../coordinator/thread-environment.ts';
import { TwinpathError } from '../errors.ts';

/** @param name of the thread entry, a file of `workers/` without its ending */
export function startThread(name: string, workerData: unknown): Worker {
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  const entry = new URL(`../../workers/${name}${extension}`, import.meta.url);
  return new Worker(entry, { workerData, name: `tp-${name}`, env: threadEnvironment() });
}

/**
 * The first message of a kind. The thread's exit after it comes too late to change anything: a promise settles
 * once.
 *
 * @throws ERR_WORKER when the thread ends without it, or what ended the thread
 */
export function told<Message extends { readonly kind: string }, K extends Message['kind']>(
  worker: Worker,
  kind: K,
): Promise<Extract<Message, { kind: K }>> {
  return new Promise((resolve, reject) => {
    worker.on('message', (message: Message) => {
      if (message.kind === kind) resolve(message as Extract<Message, { kind: K }>);
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      reject(new TwinpathError('ERR_WORKER', { detail: 'the traffic thread ended too early' }));
    });
  });
}
