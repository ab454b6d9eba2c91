/**
 * Twinpath's WebAssembly ABI, version 1, for AssemblyScript. docs/wasm-abi.md explains it.
 *
 *     asc handler.ts -o handler.wasm -O --enable threads --sharedMemory --importMemory --noExportMemory \
 *         --initialMemory 1 --maximumMemory 65536 --runtime ./node_modules/twinpath/wasm/include/twinpath-runtime
 *
 * ```ts
 * import { setVerdict, TX } from 'twinpath/wasm/include/twinpath';
 * export { twinpath_abi } from 'twinpath/wasm/include/twinpath';
 *
 * export function burst(at: usize, length: i32): void {
 *   for (let i = 0; i < length; i++) setVerdict(at, i, TX);
 * }
 * ```
 */

/** The ABI this file describes. Export it from the module. */
export function twinpath_abi(): i32 {
  // @ts-ignore: the runtime's
  if (!isDefined(__twinpath_runtime)) ERROR("compile with --runtime PATH/twinpath/wasm/include/twinpath-runtime");
  return 1;
}

/** Verdicts; DROP is what every packet has before the call. */
export const DROP: u8 = 0;
export const TX: u8 = 1;
export const FORWARD: u8 = 2;
export const PASS: u8 = 3;
export const DELIVER: u8 = 4;

/** Where packet `i` starts. */
// @ts-ignore: decorator
@inline export function packetAt(burst: usize, i: i32): usize {
  return load<u32>(burst + (<usize>i << 2));
}
/** Its bytes, without the frame check sequence. */
// @ts-ignore: decorator
@inline export function packetBytes(burst: usize, i: i32): i32 {
  return load<i32>(burst + (<usize>i << 2), 256);
}
/** Moves a packet inside its frame, or changes its length. */
// @ts-ignore: decorator
@inline export function setPacket(burst: usize, i: i32, at: usize, bytes: i32): void {
  store<u32>(burst + (<usize>i << 2), <u32>at);
  store<i32>(burst + (<usize>i << 2), bytes, 256);
}
/** RSS hash, 0 where none was computed. */
// @ts-ignore: decorator
@inline export function packetHash(burst: usize, i: i32): u32 {
  return load<u32>(burst + (<usize>i << 2), 512);
}
/** What its path leaves to be done: segment bytes, kind << 16, unfinished checksum << 24. */
// @ts-ignore: decorator
@inline export function packetOffload(burst: usize, i: i32): u32 {
  return load<u32>(burst + (<usize>i << 2), 768);
}
/** Number of the port it came from. */
// @ts-ignore: decorator
@inline export function packetPort(burst: usize, i: i32): i32 {
  return load<u8>(burst + <usize>i, 1024);
}
/** 1 synthetic, 2 VF, 3 the machine's own stack. */
// @ts-ignore: decorator
@inline export function packetPath(burst: usize, i: i32): i32 {
  return load<u8>(burst + <usize>i, 1088);
}
// @ts-ignore: decorator
@inline export function setVerdict(burst: usize, i: i32, verdict: u8): void {
  store<u8>(burst + <usize>i, verdict, 1152);
}
/** For FORWARD: the port to send it by. */
// @ts-ignore: decorator
@inline export function setTarget(burst: usize, i: i32, port: i32): void {
  store<u8>(burst + <usize>i, <u8>port, 1216);
}

/**
 * Distance from the packet's first byte to its network header: behind the Ethernet header and any number of VLAN tags,
 * where the kernel finds it. The EtherType is in the two bytes before. The packet has at least 14 bytes.
 */
// @ts-ignore: decorator
@inline export function networkOffset(packet: usize, bytes: i32): i32 {
  let l3 = 14;
  while (isTag(load<u16>(packet + <usize>l3 - 2)) && l3 + 4 <= bytes) l3 += 4;
  return l3;
}
/** 802.1Q and 802.1ad, as they lie in memory. */
// @ts-ignore: decorator
@inline function isTag(type: u16): bool {
  return type == 0x0081 || type == 0xa888;
}

/** What the worker tells the module about where it runs. */
@unmanaged
export class Context {
  /** This worker's queue, from 0, and how many there are. */
  queue: i32;
  queues: i32;
  /** Ports, and where their MAC addresses are: see {@link macOf}. */
  ports: i32;
  macs: usize;
  /** The port's `handlerOptions` as JSON, in UTF-8. */
  options: usize;
  optionsBytes: i32;
  /** This worker's own memory. `new` takes from its start: twinpath-runtime.ts. */
  area: usize;
  areaBytes: i32;
}

// @ts-ignore: decorator
@external("env", "context") declare function env_context(): usize;
/** The same at every call. */
export function context(): Context {
  return changetype<Context>(env_context());
}

/** Address of the six bytes of a port's MAC address. */
// @ts-ignore: decorator
@inline export function macOf(context: Context, port: i32): usize {
  return context.macs + (<usize>port << 3);
}

/** A free frame: where its packet starts, or -1 if none is free. One at a time; post or put it in the same call. */
// @ts-ignore: decorator
@external("env", "take") export declare function take(): i32;
/** Sends the frame that was taken. False, and the frame is free again, if the path is full. */
// @ts-ignore: decorator
@external("env", "post") export declare function post(at: usize, bytes: i32): bool;
/** Frees the frame that was taken. */
// @ts-ignore: decorator
@external("env", "put") export declare function put(at: usize): void;
/** Ends the call with an error: in `init` openPort rejects with this text (UTF-8), later it costs the burst. */
// @ts-ignore: decorator
@external("env", "fail") export declare function fail(text: usize, bytes: i32): void;

/** As {@link fail}, of a string. */
export function refuse(text: string): void {
  const bytes = String.UTF8.encode(text);
  fail(changetype<usize>(bytes), bytes.byteLength);
}
