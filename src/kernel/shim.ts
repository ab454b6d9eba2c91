/**
 * The only module that calls native code: it finds native/shim.c's object, builds it if needed, loads it and types it.
 *
 * Any thread may call {@link loadShim}; each thread loads its own handle of the same object. A function returns a count
 * or a negative errno and never throws; pass a result that a user's mistake can make negative to `check()` of errors.ts.
 * Addresses are Numbers (48 bits fit): see {@link addressOf}.
 *
 * NB: an address does not keep its buffer alive. Keep the view for as long as the address.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { TwinpathError } from '../errors.ts';
import { ABI } from '../memory/abi.ts';
import { packageRoot } from '../package-root.ts';
import { tooFewFiles } from '../start-failure.ts';
import { cachedShim } from './shim-cache.ts';
import { distrustPackageFile, refuse } from './trust.ts';

/** A fixed-size typed array, or an address inside one. A call with a Number costs least (30 ns). */
export type Pointer = number | ArrayBufferView;

export interface Shim {
  /** The file that was loaded. */
  readonly file: string;
  offset(field: number): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, at: Pointer, length: number): number;
  write(fd: number, at: Pointer, length: number): number;
  /**
   * readNoted is `readv` with the two struct iovec at `base` + `pair`; writeNoted is `write` of the bytes at `base` + `at`.
   * Both store their result in the Int32 at `base` + `note` before they return.
   */
  readNoted(fd: number, base: Pointer, pair: number, note: number): number;
  writeNoted(fd: number, base: Pointer, at: number, length: number, note: number): number;
  ioctl(fd: number, request: number, argument: Pointer): number;
  eventfd(): number;
  /** Moves the calling thread, and no other, into a namespace. */
  setns(fd: number, kind: number): number;
  /** At most 15 bytes; shown by top, perf and gdb. */
  threadName(name: string): number;
  /** Pins the calling thread to one CPU. */
  affinity(cpu: number): number;
  bpf(command: number, attributes: Pointer, size: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, name: Pointer, length: number): number;
  connect(fd: number, name: Pointer, length: number): number;
  send(fd: number, at: Pointer, length: number, flags: number): number;
  recv(fd: number, at: Pointer, length: number, flags: number): number;
  sendmmsg(fd: number, messages: Pointer, count: number, flags: number): number;
  recvmmsg(fd: number, messages: Pointer, count: number, flags: number): number;
  setsockopt(fd: number, level: number, option: number, value: Pointer, length: number): number;
  /** Returns the option's length. */
  getsockopt(fd: number, level: number, option: number, value: Pointer, room: number): number;
  /** Waits for any of `count` pollfds, for at most 50 ms even if `millis` is larger. */
  poll(pollfds: Pointer, count: number, millis: number): number;
  /** The same in microseconds. It may take the thread's timer slack longer, by default 50 µs. */
  pollMicros(pollfds: Pointer, count: number, micros: number): number;
  /** Milliseconds of CLOCK_MONOTONIC, modulo 2^31: see {@link millisBetween}. A double would be garbage to collect. */
  millis(): number;
  xskOpen(request: Pointer): number;
  xskBind(fd: number, ifindex: number, queue: number, flags: number, umem: number): number;
  xskClose(request: Pointer): number;
  /** xskKick has the kernel read a socket's transmit ring, xskWake its fill ring. */
  xskKick(fd: number): number;
  xskWake(fd: number): number;
  uringOpen(request: Pointer): number;
  uringEnter(fd: number, submit: number): number;
  readBurst(fd: number, base: Pointer, spans: Pointer, count: number): number;
  /** Like `readBurst`, but reads packet i into the i-th pair of struct iovec, and stores its length in `lengths[i]`. */
  readPairs(fd: number, pairs: Pointer, lengths: Pointer, count: number): number;
  writeBurst(fd: number, base: Pointer, spans: Pointer, count: number): number;
  /**
   * Writes packets in segments: packet i is the next `counts[i]` spans, 1 to 64. Stops at the first refusal and returns
   * the number of packets written.
   */
  writeChains(fd: number, base: Pointer, spans: Pointer, counts: Pointer, chains: number): number;
}

/** Parameter types: i is int, u uint32, p a pointer (a view or an address), s a string. */
const SIGNATURES: Record<Exclude<keyof Shim, 'file'>, readonly [symbol: string, parameters: string]> = {
  offset: ['tp_offset', 'i'],
  open: ['tp_open', 'si'],
  close: ['tp_close', 'i'],
  read: ['tp_read', 'ipu'],
  write: ['tp_write', 'ipu'],
  readNoted: ['tp_read_noted', 'ipuu'],
  writeNoted: ['tp_write_noted', 'ipuuu'],
  ioctl: ['tp_ioctl', 'iup'],
  eventfd: ['tp_eventfd', ''],
  setns: ['tp_setns', 'ii'],
  threadName: ['tp_thread_name', 's'],
  affinity: ['tp_affinity', 'i'],
  bpf: ['tp_bpf', 'ipu'],
  socket: ['tp_socket', 'iii'],
  bind: ['tp_bind', 'ipu'],
  connect: ['tp_connect', 'ipu'],
  send: ['tp_send', 'ipui'],
  recv: ['tp_recv', 'ipui'],
  sendmmsg: ['tp_sendmmsg', 'ipui'],
  recvmmsg: ['tp_recvmmsg', 'ipui'],
  setsockopt: ['tp_setsockopt', 'iiipu'],
  getsockopt: ['tp_getsockopt', 'iiipu'],
  poll: ['tp_poll', 'pui'],
  pollMicros: ['tp_poll_micros', 'puu'],
  millis: ['tp_millis', ''],
  xskOpen: ['tp_xsk_open', 'p'],
  xskBind: ['tp_xsk_bind', 'iuuui'],
  xskClose: ['tp_xsk_close', 'p'],
  xskKick: ['tp_xsk_kick', 'i'],
  xskWake: ['tp_xsk_wake', 'i'],
  uringOpen: ['tp_uring_open', 'p'],
  uringEnter: ['tp_uring_enter', 'iu'],
  readBurst: ['tp_read_burst', 'ippu'],
  readPairs: ['tp_read_pairs', 'ippu'],
  writeBurst: ['tp_write_burst', 'ippu'],
  writeChains: ['tp_write_chains', 'ipppu'],
};

const TYPES: Record<string, string> = { i: 'int', u: 'uint32_t', p: 'void *', s: 'const char *' };

let loaded: Shim | undefined;

/**
 * The shim, loaded once per thread. It is in `build/` (a clone), in `prebuilds/` (the package) or in the user's cache. If
 * none has it, it is compiled into the cache. trust.ts checks who can have put it there.
 *
 * @throws ERR_NOT_LINUX, ERR_SHIM_MISSING (no compiler and nothing prebuilt), ERR_SHIM_LOAD, ERR_SHIM_ABI, ERR_START
 */
export function loadShim(): Shim {
  loaded ??= bind(locate());
  return loaded;
}

/** Milliseconds between two readings of `millis`, negative if `to` is the earlier; up to twelve days either way. */
export const millisBetween = (from: number, to: number): number => ((to - from) << 1) >> 1;

/** The address of a view's first byte, for the shim. The caller keeps the view alive. */
export function addressOf(view: ArrayBufferView): number {
  return Number(koffi.address(view));
}

function bind(file: string): Shim {
  const library = open(file);
  const abi = library.func('int tp_abi()')() as number;
  if (abi !== ABI) {
    throw new TwinpathError('ERR_SHIM_ABI', {
      device: file,
      detail: `it has ABI ${abi}, this version needs ${ABI}`,
      hint: 'Delete that file, or run "make -C native" in a clone.',
    });
  }
  const shim: Record<string, unknown> = { file };
  for (const [name, [symbol, parameters]] of Object.entries(SIGNATURES)) {
    shim[name] = library.func(
      symbol,
      'int',
      [...parameters].map((p) => TYPES[p]!),
    );
  }
  return shim as unknown as Shim;
}

function open(file: string): ReturnType<typeof koffi.load> {
  try {
    return koffi.load(file);
  } catch (error) {
    const detail = (error as Error).message;
    if (detail.includes('Too many open files')) throw tooFewFiles('EMFILE', file);
    throw new TwinpathError('ERR_SHIM_LOAD', {
      device: file,
      detail,
      hint: 'Delete that file: it is then built again. If its folder is mounted noexec, set XDG_CACHE_HOME to another.',
    });
  }
}

/**
 * Refuses all platforms but Linux, before any other check. Handlers and their tests run everywhere.
 *
 * @throws ERR_NOT_LINUX
 */
export function requireLinux(): void {
  if (process.platform === 'linux') return;
  throw new TwinpathError('ERR_NOT_LINUX', {
    device: process.platform,
    hint: 'Write and test handlers here with "twinpath/handler" and "twinpath/testing"; open ports on Linux.',
  });
}

function locate(): string {
  requireLinux();
  const owner = statSync(join(packageRoot, 'package.json')).uid;
  for (const folder of ['build', `prebuilds/linux-${process.arch}`]) {
    const file = join(packageRoot, folder, 'shim.so');
    if (!existsSync(file)) continue;
    refuse(distrustPackageFile(file, owner));
    return file;
  }
  return cachedShim(join(packageRoot, 'native'));
}
