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

/**
 * The native calls. `length`, `count` and `size` are checked against the view: EFAULT if the call would touch bytes outside
 * of it, EINVAL if an offset or a view is misaligned.
 *
 * Calls of the packet path have an address and the `room` from there on instead of the view of the shared memory: a view costs
 * more than a Number (30 ns). Take both from one view, and keep it.
 */
export interface Shim {
  /** The file that was loaded. */
  readonly file: string;
  offset(field: number): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, at: ArrayBufferView, length: number): number;
  write(fd: number, at: ArrayBufferView, length: number): number;
  /** `write` of the bytes at `base` + `at`. */
  writeAt(fd: number, base: number, room: number, at: number, length: number): number;
  /**
   * readNoted is `readv` with the two struct iovec at `base` + `pair`, whose buffers are in the room too; writeNoted is
   * `write` of the bytes at `base` + `at`. Both store their result in the Int32 at `base` + `note` before they return.
   * An offset outside of the room is not stored.
   */
  readNoted(fd: number, base: number, room: number, pair: number, note: number): number;
  writeNoted(fd: number, base: number, room: number, at: number, length: number, note: number): number;
  /** EINVAL for a request that native/shim.c does not know. A Number is the argument itself. */
  ioctl(fd: number, request: number, argument: number | ArrayBufferView): number;
  eventfd(): number;
  /** Moves the calling thread, and no other, into a namespace. */
  setns(fd: number, kind: number): number;
  /** At most 15 bytes; shown by top, perf and gdb. */
  threadName(name: string): number;
  /** Pins the calling thread to one CPU. */
  affinity(cpu: number): number;
  bpf(command: number, attributes: ArrayBufferView, size: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, name: ArrayBufferView, length: number): number;
  connect(fd: number, name: ArrayBufferView, length: number): number;
  send(fd: number, at: ArrayBufferView, length: number, flags: number): number;
  recv(fd: number, at: ArrayBufferView, length: number, flags: number): number;
  sendmmsg(fd: number, messages: ArrayBufferView, count: number, flags: number): number;
  recvmmsg(fd: number, messages: ArrayBufferView, count: number, flags: number): number;
  setsockopt(fd: number, level: number, option: number, value: ArrayBufferView, length: number): number;
  /** Returns the option's length. */
  getsockopt(fd: number, level: number, option: number, value: ArrayBufferView, length: number): number;
  /** Waits for any of `count` pollfds, for at most 50 ms even if `millis` is larger. */
  poll(pollfds: ArrayBufferView, count: number, millis: number): number;
  /** The same in microseconds. It may take the thread's timer slack longer, by default 50 µs. */
  pollMicros(pollfds: ArrayBufferView, count: number, micros: number): number;
  /** Milliseconds of CLOCK_MONOTONIC, modulo 2^31: see {@link millisBetween}. A double would be garbage to collect. */
  millis(): number;
  /** Frames and rings of the request are inside `memory`. */
  xskOpen(request: ArrayBufferView, memory: ArrayBufferView): number;
  xskBind(fd: number, ifindex: number, queue: number, flags: number, umem: number): number;
  xskClose(request: ArrayBufferView, memory: ArrayBufferView): number;
  /** xskKick has the kernel read a socket's transmit ring, xskWake its fill ring. */
  xskKick(fd: number): number;
  xskWake(fd: number): number;
  /** Rings and frames of the request are inside `memory`. */
  uringOpen(request: ArrayBufferView, memory: ArrayBufferView): number;
  uringEnter(fd: number, submit: number): number;
  readBurst(fd: number, base: number, room: number, spans: ArrayBufferView, count: number): number;
  /**
   * Like `readBurst`, but reads packet i into the i-th pair of struct iovec at `base` + `pairs`, and stores its length in
   * `lengths[i]`.
   */
  readPairs(
    fd: number,
    base: number,
    room: number,
    pairs: number,
    lengths: ArrayBufferView,
    count: number,
  ): number;
  writeBurst(fd: number, base: number, room: number, spans: ArrayBufferView, count: number): number;
  /**
   * Writes packets in segments: packet i is the next `counts[i]` spans, 1 to 64. Stops at the first refusal and returns
   * the number of packets written.
   */
  writeChains(
    fd: number,
    base: number,
    room: number,
    spans: ArrayBufferView,
    counts: ArrayBufferView,
    chains: number,
  ): number;
}

/** The exported functions. Parameter types: i is int, u uint32, p an address, n the room there (uint64), s a string. */
const SIGNATURES = {
  tp_offset: 'i',
  tp_open: 'si',
  tp_close: 'i',
  tp_read: 'ipnuu',
  tp_write: 'ipnuu',
  tp_read_noted: 'ipnuu',
  tp_write_noted: 'ipnuuu',
  tp_ioctl: 'iupn',
  tp_eventfd: '',
  tp_setns: 'ii',
  tp_thread_name: 's',
  tp_affinity: 'i',
  tp_bpf: 'ipnu',
  tp_socket: 'iii',
  tp_bind: 'ipnu',
  tp_connect: 'ipnu',
  tp_send: 'ipnui',
  tp_recv: 'ipnui',
  tp_sendmmsg: 'ipnui',
  tp_recvmmsg: 'ipnui',
  tp_setsockopt: 'iiipnu',
  tp_getsockopt: 'iiipnu',
  tp_poll: 'pnui',
  tp_poll_micros: 'pnuu',
  tp_millis: '',
  tp_xsk_open: 'pnpn',
  tp_xsk_bind: 'iuuui',
  tp_xsk_close: 'pnpn',
  tp_xsk_kick: 'i',
  tp_xsk_wake: 'i',
  tp_uring_open: 'pnpn',
  tp_uring_enter: 'iu',
  tp_read_burst: 'ipnpnu',
  tp_read_pairs: 'ipnupnu',
  tp_write_burst: 'ipnpnu',
  tp_write_chains: 'ipnpnpnu',
} as const;

type Native = Record<keyof typeof SIGNATURES, (...values: (number | string | ArrayBufferView)[]) => number>;

const TYPES: Record<string, string> = {
  i: 'int',
  u: 'uint32_t',
  p: 'void *',
  n: 'uint64_t',
  s: 'const char *',
};

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
  const native: Record<string, unknown> = {};
  for (const [symbol, parameters] of Object.entries(SIGNATURES)) {
    native[symbol] = library.func(
      symbol,
      'int',
      [...parameters].map((p) => TYPES[p]!),
    );
  }
  return shimOf(file, native as Native);
}

/** The calls with their views' rooms. Each call is written out: a rest parameter would be an array to collect. */
function shimOf(file: string, native: Native): Shim {
  return {
    file,
    offset: native.tp_offset,
    open: native.tp_open,
    close: native.tp_close,
    read: (fd, at, length) => native.tp_read(fd, at, at.byteLength, 0, length),
    write: (fd, at, length) => native.tp_write(fd, at, at.byteLength, 0, length),
    writeAt: native.tp_write,
    readNoted: native.tp_read_noted,
    writeNoted: native.tp_write_noted,
    ioctl: (fd, request, argument) =>
      native.tp_ioctl(fd, request, argument, typeof argument === 'number' ? 0 : argument.byteLength),
    eventfd: native.tp_eventfd,
    setns: native.tp_setns,
    threadName: native.tp_thread_name,
    affinity: native.tp_affinity,
    bpf: (command, attributes, size) => native.tp_bpf(command, attributes, attributes.byteLength, size),
    socket: native.tp_socket,
    bind: (fd, name, length) => native.tp_bind(fd, name, name.byteLength, length),
    connect: (fd, name, length) => native.tp_connect(fd, name, name.byteLength, length),
    send: (fd, at, length, flags) => native.tp_send(fd, at, at.byteLength, length, flags),
    recv: (fd, at, length, flags) => native.tp_recv(fd, at, at.byteLength, length, flags),
    sendmmsg: (fd, messages, count, flags) =>
      native.tp_sendmmsg(fd, messages, messages.byteLength, count, flags),
    recvmmsg: (fd, messages, count, flags) =>
      native.tp_recvmmsg(fd, messages, messages.byteLength, count, flags),
    setsockopt: (fd, level, option, value, length) =>
      native.tp_setsockopt(fd, level, option, value, value.byteLength, length),
    getsockopt: (fd, level, option, value, length) =>
      native.tp_getsockopt(fd, level, option, value, value.byteLength, length),
    poll: (pollfds, count, millis) => native.tp_poll(pollfds, pollfds.byteLength, count, millis),
    pollMicros: (pollfds, count, micros) => native.tp_poll_micros(pollfds, pollfds.byteLength, count, micros),
    millis: native.tp_millis,
    xskOpen: (request, memory) => native.tp_xsk_open(request, request.byteLength, memory, memory.byteLength),
    xskBind: native.tp_xsk_bind,
    xskClose: (request, memory) =>
      native.tp_xsk_close(request, request.byteLength, memory, memory.byteLength),
    xskKick: native.tp_xsk_kick,
    xskWake: native.tp_xsk_wake,
    uringOpen: (request, memory) =>
      native.tp_uring_open(request, request.byteLength, memory, memory.byteLength),
    uringEnter: native.tp_uring_enter,
    readBurst: (fd, base, room, spans, count) =>
      native.tp_read_burst(fd, base, room, spans, spans.byteLength, count),
    readPairs: (fd, base, room, pairs, lengths, count) =>
      native.tp_read_pairs(fd, base, room, pairs, lengths, lengths.byteLength, count),
    writeBurst: (fd, base, room, spans, count) =>
      native.tp_write_burst(fd, base, room, spans, spans.byteLength, count),
    writeChains: (fd, base, room, spans, counts, chains) =>
      native.tp_write_chains(fd, base, room, spans, spans.byteLength, counts, counts.byteLength, chains),
  };
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
