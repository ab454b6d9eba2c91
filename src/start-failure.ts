/** Failures of Node to load this package or to start its threads, as a TwinpathError. Pure. */
import { TwinpathError } from './errors.ts';

/** undefined for any other error: that one is a bug, and its stack should be shown. */
export function startFailure(error: unknown): TwinpathError | undefined {
  const { code, path, syscall, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'EMFILE':
    case 'ENFILE':
      return tooFewFiles(code, path);
    case 'ERR_WORKER_INIT_FAILED': {
      const errno = /\bE[MN]FILE\b/.exec(message)?.[0];
      if (errno !== undefined) return tooFewFiles(errno);
      const hint = 'Raise the limit of threads: ulimit -u, or TasksMax= for systemd.';
      return failure(path, `the kernel gives it no thread (${message})`, hint);
    }
    case 'ERR_ACCESS_DENIED':
    case 'ERR_DLOPEN_DISABLED':
      return failure(
        path,
        `Node's permission model refuses what it needs (${code})`,
        'Allow it: --allow-addons --allow-worker --allow-child-process --allow-fs-read=* --allow-fs-write=*.',
      );
    case 'EACCES':
      return failure(
        path,
        `this user may not read it (${syscall}: EACCES)`,
        'Look at the modes of its folders.',
      );
    case 'ERR_MODULE_NOT_FOUND':
      return failure(path, message, 'In a clone, "npm ci" installs and builds what is needed.');
    default:
      return undefined;
  }
}

/** @param file the file that could not be opened, if known */
export function tooFewFiles(errno: string, file?: string): TwinpathError {
  return failure(file, `too few open files are allowed (${errno})`, 'Raise the limit: ulimit -n 1024.');
}

function failure(file: string | undefined, detail: string, hint: string): TwinpathError {
  return new TwinpathError('ERR_START', { ...(file === undefined ? {} : { device: file }), detail, hint });
}
