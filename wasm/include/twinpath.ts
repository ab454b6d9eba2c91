/**
 * Twinpath's WebAssembly ABI, version 2, for AssemblyScript. docs/wasm-abi.md explains it.
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

/** Version of the ABI that this file describes. Export it from the module. */
export function twinpath_abi(): i32 {
  // @ts-ignore: the runtime's
  if (!isDefined(__twinpath_runtime)) ERROR("compile with --runtime PATH/twinpath/wasm/include/twinpath-runtime");
  return 2;
}

/** Verdicts. Before the call every packet has DROP. */
export const DROP: u8 = 0;
export const TX: u8 = 1;
export const FORWARD: u8 = 2;
export const PASS: u8 = 3;
export const DELIVER: u8 = 4;
/** Beside TX, FORWARD or PASS: the application gets a copy, and the packet goes its way. */
export const TEE: u8 = 8;

/** Address of packet `i`. */
// @ts-ignore: decorator
@inline export function packetAt(burst: usize, i: i32): usize {
  return load<u32>(burst + (<usize>i << 2));
}
/** Its length, without the frame check sequence. */
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
/** RSS hash; 0 if none was computed. */
// @ts-ignore: decorator
@inline export function packetHash(burst: usize, i: i32): u32 {
  return load<u32>(burst + (<usize>i << 2), 512);
}
/** Work that the path has left: segment bytes, kind << 16, unfinished checksum << 24. */
// @ts-ignore: decorator
@inline export function packetOffload(burst: usize, i: i32): u32 {
  return load<u32>(burst + (<usize>i << 2), 768);
}
/** Number of the port that it came from. */
// @ts-ignore: decorator
@inline export function packetPort(burst: usize, i: i32): i32 {
  return load<u8>(burst + <usize>i, 1024);
}
/** 1 synthetic, 2 VF, 3 the machine's own stack. */
// @ts-ignore: decorator
@inline export function packetPath(burst: usize, i: i32): i32 {
  return load<u8>(burst + <usize>i, 1088);
}
/**
 * Metadata, for a module that exports `twinpath_metadata(): i32`, the sum of what it uses. Each function below says which it
 * needs.
 */
export const TIME: i32 = 1;
export const HASH: i32 = 2;
export const CHECKSUM: i32 = 4;
export const RULE: i32 = 8;
export const TAG: i32 = 16;
export const OFFLOAD: i32 = 32;

/** When the device received it, in nanoseconds of its clock; 0 not known. Needs TIME. */
// @ts-ignore: decorator
@inline export function packetTime(burst: usize, i: i32): u64 {
  return load<u64>(burst + (<usize>i << 3), 1792);
}
/** 1 + index of the flow rule that gave it to the handler; 0 none, or not known. Needs RULE. */
// @ts-ignore: decorator
@inline export function packetRule(burst: usize, i: i32): i32 {
  return load<i32>(burst + (<usize>i << 2), 1536);
}
/** 1 if the device has verified its checksum; 0 not known. Needs CHECKSUM. */
// @ts-ignore: decorator
@inline export function packetChecksum(burst: usize, i: i32): i32 {
  return load<u8>(burst + <usize>i, 2304);
}
/** Has the port insert a VLAN tag: priority (3 bits), drop eligible (1), VLAN ID (12). Needs TAG. */
// @ts-ignore: decorator
@inline export function insertTag(burst: usize, i: i32, control: u32): void {
  store<u32>(burst + (<usize>i << 2), TAG_ORDER | (control & 0xffff), 1280);
}
/** The tag of {@link postOffload}. */
export const TAG_ORDER: u32 = 0x10000;
/** Has the port finish the checksums, or cut segments: one of the words below. Needs OFFLOAD. */
// @ts-ignore: decorator
@inline export function setOffload(burst: usize, i: i32, offload: u32): void {
  store<u32>(burst + (<usize>i << 2), offload, 768);
}
/** The port writes the checksums of TCP or UDP and of IPv4. */
export const CHECKSUM_UNFINISHED: u32 = 0x1000000;
/** The port cuts the packet into segments with so many bytes of payload. `kind`: one of the next three. */
// @ts-ignore: decorator
@inline export function segments(bytes: u32, kind: u32): u32 {
  return bytes | (kind << 16) | CHECKSUM_UNFINISHED;
}
export const TCP_V4: u32 = 1;
export const TCP_V6: u32 = 4;
export const UDP: u32 = 5;

// @ts-ignore: decorator
@inline export function setVerdict(burst: usize, i: i32, verdict: u8): void {
  store<u8>(burst + <usize>i, verdict, 1152);
}
/** For FORWARD: number of the port to send it from. */
// @ts-ignore: decorator
@inline export function setTarget(burst: usize, i: i32, port: i32): void {
  store<u8>(burst + <usize>i, <u8>port, 1216);
}

/**
 * Distance from the packet's first byte to its network header, after the Ethernet header and any number of VLAN tags, as in
 * the kernel. The EtherType is in the two bytes before. The packet must have at least 14 bytes.
 */
// @ts-ignore: decorator
@inline export function networkOffset(packet: usize, bytes: i32): i32 {
  let l3 = 14;
  while (isTag(load<u16>(packet + <usize>l3 - 2)) && l3 + 4 <= bytes) l3 += 4;
  return l3;
}
/** 802.1Q and 802.1ad, in network order. */
// @ts-ignore: decorator
@inline function isTag(type: u16): bool {
  return type == 0x0081 || type == 0xa888;
}

/** The worker that the module runs in. */
@unmanaged
export class Context {
  /** This worker's queue, from 0, and the number of queues. */
  queue: i32;
  queues: i32;
  /** Number of ports, and address of their MAC addresses: see {@link macOf}. */
  ports: i32;
  macs: usize;
  /** The port's `handlerOptions` as JSON, in UTF-8. */
  options: usize;
  optionsBytes: i32;
  /** This worker's own memory. `new` allocates from its start: twinpath-runtime.ts. */
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

/**
 * Takes a free frame: the address for its packet, or -1 if none is free. Take one at a time, and post or put it in the same
 * call.
 */
// @ts-ignore: decorator
@external("env", "take") export declare function take(): i32;
/** Sends the frame that was taken. Returns false if the path is full; the frame is then free again. */
// @ts-ignore: decorator
@external("env", "post") export declare function post(at: usize, bytes: i32): bool;
/** Sends it with orders: a word as of {@link setOffload}, and TAG_ORDER | control information of a tag; 0 nothing. */
// @ts-ignore: decorator
@external("env", "post_offload") export declare function postOffload(at: usize, bytes: i32, offload: u32, tag: u32): bool;
/** Frees the frame that was taken. */
// @ts-ignore: decorator
@external("env", "put") export declare function put(at: usize): void;
/** Ends the call with an error. In `init`, openPort rejects with this text (UTF-8); later, the burst is dropped. */
// @ts-ignore: decorator
@external("env", "fail") export declare function fail(text: usize, bytes: i32): void;

/** Like {@link fail}, with a string. */
export function refuse(text: string): void {
  const bytes = String.UTF8.encode(text);
  fail(changetype<usize>(bytes), bytes.byteLength);
}
