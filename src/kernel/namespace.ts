/**
 * Network namespaces. A socket always belongs to the namespace that its thread was in when it was opened.
 *
 * setns(2) moves only the calling thread, and not the process. `inNamespace` is synchronous: during an await, other work
 * of the thread would run in the wrong namespace.
 *
 * NB: /sys/class/net keeps showing the namespace of the mount; use rtnetlink instead.
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import type { Shim } from './shim.ts';

const CLONE_NEWNET = 0x40000000;
const O_RDONLY_CLOEXEC = 0o2000000;

/** setns(2) checks it in the user namespace that owns the network namespace, and in the process's own. */
const HINT =
  'To enter another network namespace, a process needs root or CAP_SYS_ADMIN in addition to the capabilities of a port. Or start the program in the namespace, without netns: "ip netns exec NAME …".';

/** The handle that `ip netns add NAME` makes; a name with a slash is a path already. */
export function namespacePath(nameOrPath: string): string {
  return nameOrPath.includes('/') ? nameOrPath : `/run/netns/${nameOrPath}`;
}

/**
 * A descriptor of the namespace; the caller closes it.
 *
 * @throws ERR_OPTION_INVALID if there is no such namespace
 */
export function openNamespace(shim: Shim, nameOrPath: string): number {
  const path = namespacePath(nameOrPath);
  const fd = shim.open(path, O_RDONLY_CLOEXEC);
  if (fd === Errno.ENOENT) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: nameOrPath,
      detail: `there is no network namespace at ${path}`,
      hint: 'List the namespaces with "ip netns", or give a path such as /proc/PID/ns/net.',
    });
  }
  return check(fd, 'open', { device: path, ...(refused(fd) ? { hint: HINT } : {}) });
}

/**
 * Moves this thread into the namespace for good.
 *
 * @throws ERR_OPTION_INVALID (missing, or not a network namespace), ERR_PERMISSION
 */
export function enterNamespace(shim: Shim, nameOrPath: string): void {
  const fd = openNamespace(shim, nameOrPath);
  try {
    enter(shim, fd, nameOrPath);
  } finally {
    shim.close(fd);
  }
}

/**
 * Runs `work` inside the namespace and returns to the current one, also if `work` throws. Sockets opened inside stay
 * inside. Costs two setns calls, a few microseconds.
 *
 * @throws the errors of {@link enterNamespace} and of `work`
 */
export function inNamespace<T>(shim: Shim, nameOrPath: string, work: () => T): T {
  const own = '/proc/thread-self/ns/net';
  const back = check(shim.open(own, O_RDONLY_CLOEXEC), 'open', { device: own });
  try {
    enterNamespace(shim, nameOrPath);
    try {
      return work();
    } finally {
      check(shim.setns(back, CLONE_NEWNET), 'setns', {
        device: own,
        detail: 'the thread could not return to its own network namespace',
      });
    }
  } finally {
    shim.close(back);
  }
}

function enter(shim: Shim, fd: number, device: string): void {
  const result = shim.setns(fd, CLONE_NEWNET);
  if (result === Errno.EINVAL) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device,
      syscall: 'setns',
      errno: 22,
      detail: 'that file is not a network namespace',
    });
  }
  check(result, 'setns', { device, ...(refused(result) ? { hint: HINT } : {}) });
}

const refused = (result: number): boolean => result === Errno.EPERM || result === Errno.EACCES;
