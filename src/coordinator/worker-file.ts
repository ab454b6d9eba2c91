/** Where the entry files of threads are. */
import { packageRoot } from '../package-root.ts';

/**
 * The entry file of a thread: in workers/, next to src/, before and after the build. After the build it is one file of all
 * the thread's modules (workers/bundle.mjs).
 */
export function workerFile(name: string): URL {
  const built = import.meta.url.endsWith('.js');
  return new URL(`file://${packageRoot}${built ? '/dist' : ''}/workers/${name}.${built ? 'js' : 'ts'}`);
}
