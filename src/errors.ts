/**
 * All errors, in one table: a stable code, what happened, what to do.
 *
 * A mistake of the user throws a {@link TwinpathError}. Traffic never causes an error: it is counted. A system call returns
 * a negative errno, which {@link check} turns into an error.
 */
import { permissionHint } from './capabilities.ts';

const TABLE = {
  ERR_COMMAND_UNKNOWN: 'There is no such command',
  ERR_OPTION_UNKNOWN: 'There is no such option',
  ERR_OPTION_INVALID: 'An option has an unusable value',
  ERR_START: 'Twinpath could not be started',
  ERR_NOT_LINUX: 'Twinpath drives Linux kernel rings and this is not Linux',
  ERR_SHIM_MISSING: 'The native shim is not built and could not be built',
  ERR_SHIM_LOAD: 'The native shim could not be loaded',
  ERR_SHIM_ABI: 'The native shim belongs to another version of Twinpath',
  ERR_PERMISSION: 'The kernel refused this user',
  ERR_NO_NETVSC: 'This machine has no NetVSC and no net_failover device',
  ERR_DEVICE_NOT_FOUND: 'There is no such network device',
  ERR_DEVICE_NOT_NETVSC: 'That device is not a NetVSC',
  ERR_DEVICE_AMBIGUOUS: 'More than one device fits',
  ERR_DEVICE_IN_USE: 'That device carries addresses or routes of this machine',
  ERR_DEVICE_DOWN: 'That device is not up',
  ERR_DEVICE_CHANGED: 'Another program has altered what Twinpath set up',
  ERR_DEVICE_SETTINGS: 'A setting of that device does not suit the port',
  ERR_DEVICE_BUSY: 'Another program already holds that device',
  ERR_NO_TUN: 'The kernel offers no tap devices',
  ERR_KERNEL: 'A system call failed',
  ERR_HANDLER: 'The handler could not be loaded',
  ERR_HANDLER_THREW: 'The handler threw an exception and its packet was dropped',
  ERR_HANDLER_FIXED: 'The handler takes no other options while it runs',
  ERR_HANDLER_REFUSED: 'The handler refuses these options, and all of its workers have those before',
  ERR_MESSAGE: 'A message did not reach the handler',
  ERR_NO_PORT: 'No such port runs here',
  ERR_CONTROL: 'A control socket is missing or cannot be used',
  ERR_MAINTENANCE: 'The platform does not say what it is about to do to this machine',
  ERR_CAPTURE: 'The packets of that port cannot be captured now',
  ERR_PORT_CLOSED: 'The port is closed',
  ERR_WORKER: 'A thread of the port has failed',
  ERR_LAB: 'The lab could not be built',
  ERR_OUTPUT: 'The output could not be written',
  ERR_CAPTURE_FILE: 'A capture file cannot be read or written',
  ERR_TIMEOUT: 'Something that should have happened did not',
} as const;

/** The stable name of an error. docs/troubleshooting.md has what each one means and what to do. */
export type ErrorCode = keyof typeof TABLE;

/** The fields of an error besides its code. */
export interface ErrorDetails {
  /** The network device, file or option the error is about. */
  readonly device?: string;
  /** The system call that failed. */
  readonly syscall?: string;
  /** Its errno, positive. */
  readonly errno?: number;
  /** What exactly happened, when the code's sentence is not enough. */
  readonly detail?: string;
  /** What the reader can do about it. */
  readonly hint?: string;
}

/** The fields of an error as a plain object, which survives a structured clone: the class of an error does not. */
export type PlainError = { readonly code: ErrorCode } & ErrorDetails;

/**
 * A failure that a person can act on. `message` contains the fields below and ends with what to do. Any thread.
 */
export class TwinpathError extends Error {
  /** Always 'TwinpathError'. */
  override readonly name = 'TwinpathError';
  /** Stable across versions: test this, not the message. */
  readonly code: ErrorCode;
  /** The network device, file or option the error is about. */
  readonly device: string | undefined;
  /** The system call that failed. */
  readonly syscall: string | undefined;
  /** Its errno, positive. */
  readonly errno: number | undefined;
  /** What exactly happened. */
  readonly detail: string | undefined;
  /** What the reader can do about it. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, details: ErrorDetails = {}) {
    super(sentence(code, details));
    this.code = code;
    this.device = details.device;
    this.syscall = details.syscall;
    this.errno = details.errno;
    this.detail = details.detail;
    this.hint = details.hint;
  }

  /** The fields as a plain object: an error loses its `code` in a structured clone, a plain object does not. */
  toJSON(): PlainError {
    const { code, device, syscall, errno, detail, hint } = this;
    return { code, device, syscall, errno, detail, hint };
  }

  /** The inverse of {@link toJSON}, for an error from another thread. */
  static from(plain: PlainError): TwinpathError {
    return new TwinpathError(plain.code, plain);
  }
}

/** Any exception in its plain form. One that is not a TwinpathError is a bug in this package: ERR_WORKER. */
export function plainError(error: unknown): PlainError {
  if (error instanceof TwinpathError) return error.toJSON();
  return { code: 'ERR_WORKER', detail: error instanceof Error ? error.message : String(error) };
}

function sentence(code: ErrorCode, { device, syscall, errno, detail, hint }: ErrorDetails): string {
  let text: string = TABLE[code];
  if (device !== undefined) text += `: ${device}`;
  if (syscall !== undefined) {
    text += ` (${syscall}${errno === undefined ? '' : `: ${errnoName(errno)}, ${errnoText(errno)}`})`;
  }
  if (detail !== undefined) text += `: ${detail}`;
  text += '.';
  if (hint !== undefined) text += ` ${hint}`;
  return text;
}

/** The errno values that the system calls of this package return; names and numbers as in asm-generic/errno*.h. */
const ERRNO = [
  [1, 'EPERM', 'operation not permitted'],
  [2, 'ENOENT', 'no such file or device'],
  [4, 'EINTR', 'interrupted'],
  [5, 'EIO', 'input/output error'],
  [6, 'ENXIO', 'no such device or address'],
  [7, 'E2BIG', 'too big'],
  [9, 'EBADF', 'bad file descriptor'],
  [11, 'EAGAIN', 'try again'],
  [12, 'ENOMEM', 'out of memory'],
  [13, 'EACCES', 'permission denied'],
  [14, 'EFAULT', 'bad address'],
  [16, 'EBUSY', 'device or resource busy'],
  [17, 'EEXIST', 'already exists'],
  [19, 'ENODEV', 'no such device'],
  [20, 'ENOTDIR', 'not a directory'],
  [21, 'EISDIR', 'is a directory'],
  [22, 'EINVAL', 'invalid argument'],
  [24, 'EMFILE', 'too many open files'],
  [25, 'ENOTTY', 'inappropriate ioctl'],
  [28, 'ENOSPC', 'no space left'],
  [32, 'EPIPE', 'broken pipe'],
  [38, 'ENOSYS', 'not in this kernel'],
  [67, 'ENOLINK', 'link has been severed'],
  [77, 'EBADFD', 'file descriptor in bad state'],
  [88, 'ENOTSOCK', 'not a socket'],
  [90, 'EMSGSIZE', 'message too long'],
  [93, 'EPROTONOSUPPORT', 'protocol not supported'],
  [94, 'ESOCKTNOSUPPORT', 'socket type not supported'],
  [95, 'EOPNOTSUPP', 'not supported'],
  [97, 'EAFNOSUPPORT', 'address family not supported'],
  [98, 'EADDRINUSE', 'address in use'],
  [99, 'EADDRNOTAVAIL', 'address not available'],
  [100, 'ENETDOWN', 'network is down'],
  [101, 'ENETUNREACH', 'network is unreachable'],
  [105, 'ENOBUFS', 'no buffer space'],
  [107, 'ENOTCONN', 'not connected'],
  [110, 'ETIMEDOUT', 'timed out'],
  [111, 'ECONNREFUSED', 'connection refused'],
  [113, 'EHOSTUNREACH', 'no route to host'],
  [125, 'ECANCELED', 'cancelled'],
] as const satisfies readonly (readonly [number, string, string])[];

type ErrnoName = (typeof ERRNO)[number][1];

/** Negative errno values, as the shim returns them. */
export const Errno = Object.freeze(
  Object.fromEntries(ERRNO.map(([number, name]) => [name, -number])),
) as Readonly<Record<ErrnoName, number>>;

export function errnoName(errno: number): string {
  return ERRNO.find(([number]) => number === Math.abs(errno))?.[1] ?? `errno ${Math.abs(errno)}`;
}

export function errnoText(errno: number): string {
  return ERRNO.find(([number]) => number === Math.abs(errno))?.[2] ?? 'unknown error';
}

const FILE_LIMIT_HINT = 'Raise the limit of open files: ulimit -n 1024.';

/** Returns a system call's result, or throws it as an error: EPERM and EACCES as ERR_PERMISSION, all others as `code`. */
export function check(
  result: number,
  syscall: string,
  details: ErrorDetails & { code?: ErrorCode } = {},
): number {
  if (result >= 0) return result;
  const { code = 'ERR_KERNEL', ...rest } = details;
  const refused = result === -1 || result === -13;
  throw new TwinpathError(refused ? 'ERR_PERMISSION' : code, {
    syscall,
    errno: -result,
    hint: refused ? permissionHint() : result === Errno.EMFILE ? FILE_LIMIT_HINT : undefined,
    ...rest,
  });
}
