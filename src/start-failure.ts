/** What keeps Node from loading this package or starting its threads, as an error for people. Pure. */
import { TwinpathError } from './errors.ts';

/** undefined if it is nothing of that kind: then it is a mistake, whose stack should be seen. */
export function startFailure(error: unknown): TwinpathError | undefined {
  const { code, path, syscall, message } = error as NodeJS.ErrnoException;
  const failure = (detail: string, hint: string): TwinpathError =>
    new TwinpathError('ERR_START', { ...(path === undefined ? {} : { device: path }), detail, hint });
  switch (code) {
    case 'EMFILE':
    case 'ENFILE':
      return failure(`too few open files are allowed (${code})`, 'Raise the limit: ulimit -n 1024.');
    case 'ERR_ACCESS_DENIED':
    case 'ERR_DLOPEN_DISABLED':
      return failure(
        `Node's permission model refuses what it needs (${code})`,
        'Allow it: --allow-addons --allow-worker --allow-child-process --allow-fs-read=* --allow-fs-write=*.',
      );
    case 'EACCES':
      return failure(`this user may not read it (${syscall}: EACCES)`, 'Look at the modes of its folders.');
    case 'ERR_MODULE_NOT_FOUND':
      return failure(message, 'In a clone, "npm ci" installs and builds what is needed.');
    default:
      return undefined;
  }
}
