/** Worker threads of a lab: starting one, and waiting for its messages. */
import { Worker } from 'node:worker_threads';
import { threadEnvironment } from '../coordinator/thread-environment.ts';
import { workerFile } from '../coordinator/worker-file.ts';
import { TwinpathError } from '../errors.ts';

/** @param name of the thread entry: a file in `workers/`, without extension */
export function startThread(name: string, workerData: unknown): Worker {
  return new Worker(workerFile(name), { workerData, name: `tp-${name}`, env: threadEnvironment() });
}

/**
 * The first message of a kind that the thread posts.
 *
 * @throws ERR_WORKER if the thread exits before, or the error that ended the thread
 */
export function firstMessage<Message extends { readonly kind: string }, K extends Message['kind']>(
  worker: Worker,
  kind: K,
): Promise<Extract<Message, { kind: K }>> {
  return new Promise((resolve, reject) => {
    worker.on('message', (message: Message) => {
      if (message.kind === kind) resolve(message as Extract<Message, { kind: K }>);
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      reject(new TwinpathError('ERR_WORKER', { detail: 'a thread of the lab ended too early' }));
    });
  });
}

/** @throws ERR_TIMEOUT if the promise is pending after so many milliseconds, or what it rejects with */
export async function within<T>(millis: number, what: string, promise: Promise<T>): Promise<T> {
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
