/**
 * `union bpf_attr`: one function for each bpf(2) command that Twinpath makes, which lays out its attributes.
 *
 * A block holds the attributes and, after them, everything they point at. The block is the argument of the call, so
 * nothing that the kernel reads can be collected before the call returns.
 *
 * Pure functions; any thread. Layouts: include/uapi/linux/bpf.h. An older kernel accepts fields that it does not know
 * if they are zero (kernel/bpf/syscall.c, bpf_check_uarg_tail_zero). A pointer that a command does not use must be zero
 * too (CHECK_ATTR).
 */
import { addressOf } from './shim.ts';

/** 'xdp.frags': a packet may be in several buffers, of which the program sees the first (Linux 5.18). */
export type ProgramType = 'xdp' | 'xdp.frags' | 'sched_cls' | 'socket_filter';
export type XdpMode = 'native' | 'generic';
export type TcDirection = 'ingress' | 'egress';

/** `enum bpf_cmd` */
export const Command = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  PROG_TEST_RUN: 10,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_DETACH: 34,
} as const;

/** `enum bpf_map_type` */
export const MapType = { HASH: 1, ARRAY: 2, PERCPU_ARRAY: 6, LPM_TRIE: 11, DEVMAP: 14, XSKMAP: 17 } as const;
/** Required of an LPM trie (kernel/bpf/lpm_trie.c, trie_alloc). */
const NO_PREALLOC = 1;
const PROGRAM_TYPE: Record<ProgramType, number> = {
  socket_filter: 1,
  sched_cls: 3,
  xdp: 6,
  'xdp.frags': 6,
};
/** BPF_F_XDP_HAS_FRAGS */
const HAS_FRAGS = 1 << 5;
const ATTACH_XDP = 37;
const ATTACH_TCX: Record<TcDirection, number> = { ingress: 46, egress: 47 };
/** BPF_F_BEFORE: without a program to be before, before all (kernel/bpf/mprog.c, bpf_mprog_pos_before). */
const BEFORE = 1 << 3;
/** XDP_FLAGS_* of include/uapi/linux/if_link.h. */
const XDP_MODE: Record<XdpMode, number> = { generic: 2, native: 4 };

/** Offsets inside `union bpf_attr`, one group for each command. */
const MapAttr = {
  type: 0,
  keySize: 4,
  valueSize: 8,
  maxEntries: 12,
  flags: 16,
  name: 28,
  bytes: 44,
} as const;
const ElementAttr = { mapFd: 0, key: 8, value: 16, flags: 24, bytes: 32 } as const;
const ProgramAttr = {
  type: 0,
  count: 4,
  code: 8,
  license: 16,
  logLevel: 24,
  logSize: 28,
  log: 32,
  flags: 44,
  name: 48,
  ifindex: 64,
  expectedAttachType: 68,
  bytes: 72,
} as const;
const LinkAttr = { programFd: 0, ifindex: 4, attachType: 8, flags: 12, bytes: 32 } as const;
const UpdateAttr = { linkFd: 0, programFd: 4, flags: 8, oldProgramFd: 12, bytes: 16 } as const;
const DetachAttr = { linkFd: 0, bytes: 4 } as const;
const QueryAttr = { ifindex: 0, attachType: 4, ids: 16, count: 24, bytes: 64 } as const;
const TestAttr = {
  programFd: 0,
  result: 4,
  bytesIn: 8,
  bytesOut: 12,
  dataIn: 16,
  dataOut: 24,
  bytes: 40,
} as const;
const InfoAttr = { fd: 0, length: 4, at: 8, bytes: 16 } as const;

const KEY_BYTES = 4;
const VALUE_BYTES = 8;
/** Most programs at one tcx hook (BPF_MPROG_MAX). */
const MAX_PROGRAMS = 64;

/**
 * None of the helpers in programs.ts is reserved for GPL programs. The functions of the kernel are (add_kfunc_call in
 * kernel/bpf/verifier.c): a program that calls one, and only that, is also under these licenses.
 */
const LICENSE = new TextEncoder().encode('Apache-2.0\0');
const KFUNC_LICENSE = new TextEncoder().encode('Dual MIT/GPL\0');
/** The program is for one device only (BPF_F_XDP_DEV_BOUND_ONLY, Linux 6.3). */
const DEVICE_BOUND = 1 << 6;

/** The attributes of one command. */
export interface Attributes {
  readonly block: DataView;
  /** Bytes of the attributes themselves, at the start of the block. */
  readonly size: number;
}

/** @param keyBytes default 4, the index of an array */
export function mapAttributes(
  type: number,
  entries: number,
  valueBytes: number,
  keyBytes = KEY_BYTES,
): Attributes {
  const attributes = allocate(MapAttr.bytes);
  const { block } = attributes;
  block.setUint32(MapAttr.type, type, true);
  block.setUint32(MapAttr.keySize, keyBytes, true);
  block.setUint32(MapAttr.valueSize, valueBytes, true);
  block.setUint32(MapAttr.maxEntries, entries, true);
  if (type === MapType.LPM_TRIE) block.setUint32(MapAttr.flags, NO_PREALLOC, true);
  setName(block, MapAttr.name, 'twinpath');
  return attributes;
}

/** A key without a value, for deleting. */
export function keyAttributes(mapFd: number, key: number): Attributes {
  const attributes = allocate(ElementAttr.bytes, KEY_BYTES + VALUE_BYTES);
  const { block } = attributes;
  block.setUint32(ElementAttr.mapFd, mapFd, true);
  setPointer(block, ElementAttr.key, ElementAttr.bytes);
  block.setUint32(ElementAttr.bytes, key, true);
  return attributes;
}

/**
 * A key and its value, which the kernel reads or writes: 4 or 8 bytes, as many as the map's values have. See
 * {@link mapValueOf}.
 */
export function elementAttributes(mapFd: number, key: number, value = 0): Attributes {
  const attributes = keyAttributes(mapFd, key);
  setPointer(attributes.block, ElementAttr.value, ElementAttr.bytes + KEY_BYTES);
  attributes.block.setBigUint64(ElementAttr.bytes + KEY_BYTES, BigInt(value), true);
  return attributes;
}

export function mapValueOf({ block }: Attributes): number {
  return Number(block.getBigUint64(ElementAttr.bytes + KEY_BYTES, true));
}

/** A key as bytes, without a value. */
export function pairKeyAttributes(mapFd: number, key: Uint8Array): Attributes {
  const attributes = pairAttributes(mapFd, key, new Uint8Array(0));
  attributes.block.setBigUint64(ElementAttr.value, 0n, true);
  return attributes;
}

/**
 * A key and its value as bytes, which the kernel reads (an update) or of which it writes the value (a look-up). For
 * MAP_GET_NEXT_KEY the value is the next key.
 */
export function pairAttributes(mapFd: number, key: Uint8Array, value: Uint8Array): Attributes {
  const valueAt = ElementAttr.bytes + Math.ceil(key.length / 8) * 8;
  const attributes = allocate(ElementAttr.bytes, valueAt - ElementAttr.bytes + value.length);
  const { block } = attributes;
  const bytes = new Uint8Array(block.buffer);
  bytes.set(key, ElementAttr.bytes);
  bytes.set(value, valueAt);
  block.setUint32(ElementAttr.mapFd, mapFd, true);
  setPointer(block, ElementAttr.key, ElementAttr.bytes);
  setPointer(block, ElementAttr.value, valueAt);
  return attributes;
}

/** The value of {@link pairAttributes} for a key of `keyBytes`. */
export function pairValueOf({ block }: Attributes, keyBytes: number): DataView {
  return new DataView(block.buffer, ElementAttr.bytes + Math.ceil(keyBytes / 8) * 8);
}

/**
 * @param logBytes room for the verifier's log; 0 asks for no log. See {@link logOf}
 * @param boundTo ifindex of the device whose driver's functions the program calls; 0 none
 */
export function programAttributes(
  type: ProgramType,
  name: string,
  code: Uint8Array,
  logBytes: number,
  boundTo = 0,
): Attributes {
  const license = boundTo > 0 ? KFUNC_LICENSE : LICENSE;
  const codeAt = ProgramAttr.bytes;
  const licenseAt = codeAt + code.length;
  const logAt = licenseAt + license.length;
  const attributes = allocate(ProgramAttr.bytes, code.length + license.length + logBytes);
  const { block } = attributes;
  const bytes = new Uint8Array(block.buffer);
  bytes.set(code, codeAt);
  bytes.set(license, licenseAt);
  block.setUint32(ProgramAttr.type, PROGRAM_TYPE[type], true);
  block.setUint32(ProgramAttr.count, code.length / 8, true);
  setPointer(block, ProgramAttr.code, codeAt);
  setPointer(block, ProgramAttr.license, licenseAt);
  if (logBytes > 0) {
    block.setUint32(ProgramAttr.logLevel, 1, true);
    block.setUint32(ProgramAttr.logSize, logBytes, true);
    setPointer(block, ProgramAttr.log, logAt);
  }
  setName(block, ProgramAttr.name, name);
  const flags = (boundTo > 0 ? DEVICE_BOUND : 0) | (type === 'xdp.frags' ? HAS_FRAGS : 0);
  block.setUint32(ProgramAttr.flags, flags, true);
  if (boundTo > 0) block.setUint32(ProgramAttr.ifindex, boundTo, true);
  if (PROGRAM_TYPE[type] === PROGRAM_TYPE.xdp) {
    block.setUint32(ProgramAttr.expectedAttachType, ATTACH_XDP, true);
  }
  return attributes;
}

/** What the verifier wrote, of a block made for such a program. */
export function logOf({ block }: Attributes): string {
  const at = Number(block.getBigUint64(ProgramAttr.log, true)) - addressOf(block);
  return textOf(new Uint8Array(block.buffer, at));
}

export function xdpLinkAttributes(programFd: number, ifindex: number, mode: XdpMode): Attributes {
  return linkAttributes(programFd, ifindex, ATTACH_XDP, XDP_MODE[mode]);
}

export function tcxLinkAttributes(
  programFd: number,
  ifindex: number,
  where: TcDirection,
  first: boolean,
): Attributes {
  return linkAttributes(programFd, ifindex, ATTACH_TCX[where], first ? BEFORE : 0);
}

function linkAttributes(programFd: number, ifindex: number, type: number, flags: number): Attributes {
  const attributes = allocate(LinkAttr.bytes);
  const { block } = attributes;
  block.setUint32(LinkAttr.programFd, programFd, true);
  block.setUint32(LinkAttr.ifindex, ifindex, true);
  block.setUint32(LinkAttr.attachType, type, true);
  block.setUint32(LinkAttr.flags, flags, true);
  return attributes;
}

export function linkUpdateAttributes(linkFd: number, programFd: number): Attributes {
  const attributes = allocate(UpdateAttr.bytes);
  attributes.block.setUint32(UpdateAttr.linkFd, linkFd, true);
  attributes.block.setUint32(UpdateAttr.programFd, programFd, true);
  return attributes;
}

export function detachAttributes(linkFd: number): Attributes {
  const attributes = allocate(DetachAttr.bytes);
  attributes.block.setUint32(DetachAttr.linkFd, linkFd, true);
  return attributes;
}

/** Asks for the ids of the programs of a tcx hook: see {@link programIdsOf}. */
export function queryAttributes(ifindex: number, where: TcDirection): Attributes {
  const attributes = allocate(QueryAttr.bytes, 4 * MAX_PROGRAMS);
  const { block } = attributes;
  block.setUint32(QueryAttr.ifindex, ifindex, true);
  block.setUint32(QueryAttr.attachType, ATTACH_TCX[where], true);
  block.setUint32(QueryAttr.count, MAX_PROGRAMS, true);
  setPointer(block, QueryAttr.ids, QueryAttr.bytes);
  return attributes;
}

export function programIdsOf({ block }: Attributes): number[] {
  const count = Math.min(block.getUint32(QueryAttr.count, true), MAX_PROGRAMS);
  return Array.from({ length: count }, (_, i) => block.getUint32(QueryAttr.bytes + 4 * i, true));
}

/** Runs a program over a frame; its result and its frame are in {@link testResultOf}. */
export function testAttributes(programFd: number, frame: Uint8Array, room: number): Attributes {
  const frameAt = TestAttr.bytes;
  const outAt = frameAt + frame.length;
  const attributes = allocate(TestAttr.bytes, frame.length + room);
  const { block } = attributes;
  new Uint8Array(block.buffer).set(frame, frameAt);
  block.setUint32(TestAttr.programFd, programFd, true);
  block.setUint32(TestAttr.bytesIn, frame.length, true);
  block.setUint32(TestAttr.bytesOut, room, true);
  setPointer(block, TestAttr.dataIn, frameAt);
  setPointer(block, TestAttr.dataOut, outAt);
  return attributes;
}

export function testResultOf(
  { block }: Attributes,
  frameBytes: number,
): { readonly result: number; readonly frame: Uint8Array } {
  const bytes = block.getUint32(TestAttr.bytesOut, true);
  return {
    result: block.getInt32(TestAttr.result, true),
    frame: new Uint8Array(block.buffer, TestAttr.bytes + frameBytes, bytes),
  };
}

/** Asks for the first `bytes` of an object's description: see {@link infoOf}. */
export function infoAttributes(fd: number, bytes: number): Attributes {
  const attributes = allocate(InfoAttr.bytes, bytes);
  const { block } = attributes;
  block.setUint32(InfoAttr.fd, fd, true);
  block.setUint32(InfoAttr.length, bytes, true);
  setPointer(block, InfoAttr.at, InfoAttr.bytes);
  return attributes;
}

export function infoOf({ block }: Attributes): DataView {
  return new DataView(block.buffer, InfoAttr.bytes);
}

/** Bytes up to the first NUL, as text. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function allocate(size: number, following = 0): Attributes {
  return { block: new DataView(new ArrayBuffer(size + following)), size };
}

function setPointer(block: DataView, at: number, target: number): void {
  block.setBigUint64(at, BigInt(addressOf(block) + target), true);
}

/** The kernel refuses other characters with EINVAL (bpf_obj_name_cpy). */
function setName(block: DataView, at: number, name: string): void {
  if (!/^[\w.]{1,15}$/.test(name)) throw new RangeError(`${name} is not a name for a BPF object`);
  for (let i = 0; i < name.length; i++) block.setUint8(at + i, name.charCodeAt(i));
}
