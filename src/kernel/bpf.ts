/**
 * bpf(2): maps, programs and links, without libbpf.
 *
 * Any thread may use it; each thread makes its own {@link Bpf}, and descriptors may pass between
 * threads. The calls are slow ones: attaching and detaching XDP takes RTNL, which the kernel holds for
 * seconds while the host plugs a VF, so only the coordinator makes them.
 *
 * Everything attached here is a bpf_link: it lives as long as its descriptor. When the process ends,
 * however it ends (SIGKILL included), the kernel detaches the programs and has its interfaces back;
 * test/system/bpf.test.ts shows it for XDP and tcx. When the *device* goes first, the link stays as an
 * empty shell whose `ifindex` is 0.
 *
 * Layouts: `union bpf_attr`, include/uapi/linux/bpf.h. A kernel that knows fewer fields than we pass
 * accepts them as long as they are zero (kernel/bpf/syscall.c, bpf_check_uarg_tail_zero).
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import { addressOf, type Shim } from './shim.ts';

export type ProgramType = 'xdp' | 'sched_cls' | 'socket_filter';
export type XdpMode = 'native' | 'generic';

export interface LinkInfo {
  /** {@link LinkType}. */
  readonly type: number;
  readonly id: number;
  readonly programId: number;
  /** 0 once the device is gone. */
  readonly ifindex: number;
}

export interface ProgramInfo {
  readonly type: number;
  readonly id: number;
  readonly name: string;
}

/** `enum bpf_link_type`, those that Twinpath makes. */
export const LinkType = { xdp: 6, tcx: 11 } as const;

const MAP_CREATE = 0;
const MAP_LOOKUP_ELEM = 1;
const MAP_UPDATE_ELEM = 2;
const MAP_DELETE_ELEM = 3;
const PROG_LOAD = 5;
const OBJ_GET_INFO_BY_FD = 15;
const PROG_QUERY = 16;
const LINK_CREATE = 28;
const LINK_DETACH = 34;

const MAP_TYPE_ARRAY = 2;
const MAP_TYPE_XSKMAP = 17;
const PROGRAM_TYPE: Record<ProgramType, number> = { socket_filter: 1, sched_cls: 3, xdp: 6 };
const ATTACH_XDP = 37;
const ATTACH_TCX = { ingress: 46, egress: 47 } as const;
/** BPF_F_BEFORE: without another program named, before all (kernel/bpf/mprog.c, bpf_mprog_pos_before). */
const BEFORE = 1 << 3;
/** XDP_FLAGS_* of include/uapi/linux/if_link.h. */
const XDP_MODE: Record<XdpMode, number> = { generic: 2, native: 4 };

/** Offsets inside `union bpf_attr`, one group for each command. */
const MapAttr = { type: 0, keySize: 4, valueSize: 8, maxEntries: 12, name: 28, bytes: 44 } as const;
const ElementAttr = { mapFd: 0, key: 8, value: 16, flags: 24, bytes: 32 } as const;
const ProgramAttr = {
  type: 0,
  count: 4,
  code: 8,
  license: 16,
  logLevel: 24,
  logSize: 28,
  log: 32,
  name: 48,
  expectedAttachType: 68,
  bytes: 72,
} as const;
const LinkAttr = { programFd: 0, ifindex: 4, attachType: 8, flags: 12, bytes: 32 } as const;
const QueryAttr = { ifindex: 0, attachType: 4, ids: 16, count: 24, bytes: 64 } as const;
/** Programs of one hook that are told of; nobody has more (BPF_MPROG_MAX). */
const QUERIED = 64;
const InfoAttr = { fd: 0, length: 4, at: 8, bytes: 16 } as const;

/** Offsets inside `struct bpf_link_info` (XDP and tcx agree) and `struct bpf_prog_info`. */
const LinkOut = { type: 0, id: 4, programId: 8, ifindex: 16, bytes: 24 } as const;
const ProgramOut = { type: 0, id: 4, name: 64, bytes: 80 } as const;

/** BPF_OBJ_NAME_LEN with its final NUL. */
const NAME_BYTES = 16;
const LOG_BYTES = 64 * 1024;
const LOG_LINES = 4;
const LOAD_ATTEMPTS = 20;

/** None of the helpers in programs.ts is reserved for GPL programs. */
const LICENSE = new TextEncoder().encode('Apache-2.0\0');

export class Bpf {
  readonly #shim: Shim;

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  /**
   * A map from queue number to AF_XDP socket. The map lives while its descriptor or a program that
   * uses it does.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL
   */
  xskMap(entries: number): number {
    return this.#createMap(MAP_TYPE_XSKMAP, entries, 4, `an XSKMAP of ${entries}`);
  }

  /**
   * Eight bytes, at first 0, that programs and we share: a word that steers a program, or a counter. As the map
   * above it lives with its users.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL
   */
  valueMap(): number {
    return this.#createMap(MAP_TYPE_ARRAY, 1, 8, 'an array of one value');
  }

  /** Stores a number below 2^32 in a {@link valueMap}; programs see it from their next packet on. @throws ERR_KERNEL */
  setValue(fd: number, value: number): void {
    this.#updateMap(fd, 0, BigInt(value), 'the value');
  }

  /** What a {@link valueMap} holds. @throws ERR_KERNEL: EBADF */
  value(fd: number): number {
    const attr = element(fd, 0);
    setPointer(attr, ElementAttr.value, ElementAttr.bytes + 4);
    check(this.#call(MAP_LOOKUP_ELEM, attr, ElementAttr.bytes), 'bpf(MAP_LOOKUP_ELEM)');
    return Number(attr.getBigUint64(ElementAttr.bytes + 4, true));
  }

  /**
   * Sets a slot; what was there is replaced between two packets. For an XSKMAP the value is a bound
   * socket's descriptor.
   *
   * @throws ERR_KERNEL: E2BIG (no such slot), EBADF, EOPNOTSUPP (the socket has no RX ring)
   */
  updateMap(fd: number, key: number, value: number): void {
    this.#updateMap(fd, key, BigInt(value), `slot ${key}`);
  }

  /**
   * Empties a slot. Packets that were already past their look-up may still reach the socket; closing
   * it waits for those.
   *
   * @returns false if the map says that it held nothing there; an XSKMAP never says so
   * (xsk_map_delete_elem)
   * @throws ERR_KERNEL: EINVAL (no such slot), EBADF
   */
  deleteMap(fd: number, key: number): boolean {
    const result = this.#call(MAP_DELETE_ELEM, element(fd, key), ElementAttr.bytes);
    if (result === Errno.ENOENT) return false;
    check(result, 'bpf(MAP_DELETE_ELEM)', { detail: `slot ${key}` });
    return true;
  }

  /**
   * Has the kernel verify and compile a program. `name` is at most 15 letters, digits, `_` and `.`; it
   * is what `bpftool` and `ip link` show.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, or ERR_KERNEL with the verifier's last lines in `detail`
   */
  load(type: ProgramType, name: string, code: Uint8Array): number {
    const first = this.#load(type, name, code, new Uint8Array(0));
    if (first >= 0) return first;
    // Only a rejected program is loaded again for its log: logging slows the verifier, and a log
    // buffer that is too small fails a good program with ENOSPC.
    let detail = `program ${name}`;
    if (first === Errno.EINVAL || first === Errno.EACCES) {
      const log = new Uint8Array(LOG_BYTES);
      const second = this.#load(type, name, code, log);
      if (second >= 0) return second;
      const lines = text(log).split('\n').filter(Boolean);
      if (lines.length > 0) {
        // EACCES is then the verifier's word for "bad program", not the kernel's for "bad user".
        throw new TwinpathError('ERR_KERNEL', {
          syscall: 'bpf(PROG_LOAD)',
          errno: -first,
          detail: `${detail}: ${lines.slice(-LOG_LINES).join(' | ')}`,
        });
      }
      detail += ', and the verifier said nothing';
    }
    return check(first, 'bpf(PROG_LOAD)', { detail });
  }

  /**
   * Attaches an XDP program; waits for RTNL. On many drivers (mlx5, mana) the native mode resets the
   * device's rings.
   *
   * @returns the link's descriptor, or a negative errno for the caller to act on: EOPNOTSUPP (no native
   * mode here), EBUSY (another program holds this mode), EEXIST (another program holds the other mode,
   * or the device above holds one), EINVAL (no such device)
   */
  attachXdp(programFd: number, ifindex: number, mode: XdpMode): number {
    return this.#link(programFd, ifindex, ATTACH_XDP, XDP_MODE[mode]);
  }

  /**
   * Attaches a tc program behind those already there, or before them.
   *
   * @returns the link's descriptor, or a negative errno: EINVAL before Linux 6.6, ENODEV
   */
  attachTcx(programFd: number, ifindex: number, where: 'ingress' | 'egress', first = false): number {
    return this.#link(programFd, ifindex, ATTACH_TCX[where], first ? BEFORE : 0);
  }

  /**
   * Ends a link and closes its descriptor: afterwards no packet enters the program. Also for a link
   * whose device has gone.
   */
  detach(linkFd: number): void {
    const attr = attributes(4);
    attr.setUint32(0, linkFd, true);
    // Closing the last descriptor would do; this ends the link even while somebody holds a copy.
    // ENOLINK and the like (the device went first) make no difference to what the caller wants.
    this.#call(LINK_DETACH, attr, 4);
    this.#shim.close(linkFd);
  }

  /** @throws ERR_KERNEL: EBADF, EINVAL (not a link) */
  linkInfo(linkFd: number): LinkInfo {
    const info = this.#info(linkFd, LinkOut.bytes);
    return {
      type: info.getUint32(LinkOut.type, true),
      id: info.getUint32(LinkOut.id, true),
      programId: info.getUint32(LinkOut.programId, true),
      ifindex: info.getUint32(LinkOut.ifindex, true),
    };
  }

  /** @throws ERR_KERNEL: EBADF, EINVAL (not a program) */
  programInfo(programFd: number): ProgramInfo {
    const info = this.#info(programFd, ProgramOut.bytes);
    return {
      type: info.getUint32(ProgramOut.type, true),
      id: info.getUint32(ProgramOut.id, true),
      name: text(new Uint8Array(info.buffer, info.byteOffset + ProgramOut.name, NAME_BYTES)),
    };
  }

  /** Ids of the tcx programs of a hook, in the order in which packets meet them; none where there is no such device. */
  tcxPrograms(ifindex: number, where: 'ingress' | 'egress'): number[] {
    const attr = attributes(QueryAttr.bytes + 4 * QUERIED);
    attr.setUint32(QueryAttr.ifindex, ifindex, true);
    attr.setUint32(QueryAttr.attachType, ATTACH_TCX[where], true);
    attr.setUint32(QueryAttr.count, QUERIED, true);
    setPointer(attr, QueryAttr.ids, QueryAttr.bytes);
    if (this.#call(PROG_QUERY, attr, QueryAttr.bytes) < 0) return [];
    const count = Math.min(attr.getUint32(QueryAttr.count, true), QUERIED);
    return Array.from({ length: count }, (_, i) => attr.getUint32(QueryAttr.bytes + 4 * i, true));
  }

  #createMap(type: number, entries: number, valueBytes: number, detail: string): number {
    const attr = attributes(MapAttr.bytes);
    attr.setUint32(MapAttr.type, type, true);
    attr.setUint32(MapAttr.keySize, 4, true);
    attr.setUint32(MapAttr.valueSize, valueBytes, true);
    attr.setUint32(MapAttr.maxEntries, entries, true);
    setName(attr, MapAttr.name, 'twinpath');
    return check(this.#call(MAP_CREATE, attr, MapAttr.bytes), 'bpf(MAP_CREATE)', { detail });
  }

  /** The kernel reads as many bytes of the value as the map's values have: four, or eight. */
  #updateMap(fd: number, key: number, value: bigint, detail: string): void {
    const attr = element(fd, key);
    setPointer(attr, ElementAttr.value, ElementAttr.bytes + 4);
    attr.setBigUint64(ElementAttr.bytes + 4, value, true);
    check(this.#call(MAP_UPDATE_ELEM, attr, ElementAttr.bytes), 'bpf(MAP_UPDATE_ELEM)', { detail });
  }

  #load(type: ProgramType, name: string, code: Uint8Array, log: Uint8Array): number {
    const codeAt = ProgramAttr.bytes;
    const licenseAt = codeAt + code.length;
    const logAt = licenseAt + LICENSE.length;
    const attr = attributes(logAt + log.length);
    const bytes = new Uint8Array(attr.buffer);
    bytes.set(code, codeAt);
    bytes.set(LICENSE, licenseAt);
    attr.setUint32(ProgramAttr.type, PROGRAM_TYPE[type], true);
    attr.setUint32(ProgramAttr.count, code.length / 8, true);
    setPointer(attr, ProgramAttr.code, codeAt);
    setPointer(attr, ProgramAttr.license, licenseAt);
    if (log.length > 0) {
      attr.setUint32(ProgramAttr.logLevel, 1, true);
      attr.setUint32(ProgramAttr.logSize, log.length, true);
      setPointer(attr, ProgramAttr.log, logAt);
    }
    setName(attr, ProgramAttr.name, name);
    if (type === 'xdp') attr.setUint32(ProgramAttr.expectedAttachType, ATTACH_XDP, true);
    // The verifier gives up with EAGAIN when its thread is to look at a signal or at work from elsewhere in the
    // kernel, a tracer's for one (do_check in verifier.c): the program is not at fault.
    let result = this.#call(PROG_LOAD, attr, ProgramAttr.bytes);
    for (let attempt = 1; result === Errno.EAGAIN && attempt < LOAD_ATTEMPTS; attempt++) {
      result = this.#call(PROG_LOAD, attr, ProgramAttr.bytes);
    }
    log.set(bytes.subarray(logAt));
    return result;
  }

  #link(programFd: number, ifindex: number, attachType: number, flags: number): number {
    const attr = attributes(LinkAttr.bytes);
    attr.setUint32(LinkAttr.programFd, programFd, true);
    attr.setUint32(LinkAttr.ifindex, ifindex, true);
    attr.setUint32(LinkAttr.attachType, attachType, true);
    attr.setUint32(LinkAttr.flags, flags, true);
    return this.#call(LINK_CREATE, attr, LinkAttr.bytes);
  }

  /** The kernel's description, at offset 0 of the result. */
  #info(fd: number, bytes: number): DataView {
    const attr = attributes(InfoAttr.bytes + bytes);
    attr.setUint32(InfoAttr.fd, fd, true);
    attr.setUint32(InfoAttr.length, bytes, true);
    setPointer(attr, InfoAttr.at, InfoAttr.bytes);
    const result = this.#call(OBJ_GET_INFO_BY_FD, attr, InfoAttr.bytes);
    check(result, 'bpf(OBJ_GET_INFO_BY_FD)', { detail: `descriptor ${fd}` });
    return new DataView(attr.buffer, InfoAttr.bytes, bytes);
  }

  #call(command: number, attr: DataView, size: number): number {
    return this.#shim.bpf(command, attr, size);
  }
}

/**
 * One block holds a command's attributes and, behind them, whatever they point at: the block is the
 * argument of the call, so nothing the kernel reads can be collected before it returns.
 */
function attributes(bytes: number): DataView {
  return new DataView(new ArrayBuffer(bytes));
}

function setPointer(attr: DataView, at: number, target: number): void {
  attr.setBigUint64(at, BigInt(addressOf(attr) + target), true);
}

/** Key and value lie behind the attributes. A pointer that a command does not use must stay zero (CHECK_ATTR). */
function element(fd: number, key: number): DataView {
  const attr = attributes(ElementAttr.bytes + 4 + 8);
  attr.setUint32(ElementAttr.mapFd, fd, true);
  setPointer(attr, ElementAttr.key, ElementAttr.bytes);
  attr.setUint32(ElementAttr.bytes, key, true);
  return attr;
}

/** The kernel refuses other characters with EINVAL (bpf_obj_name_cpy). */
function setName(attr: DataView, at: number, name: string): void {
  if (!/^[\w.]{1,15}$/.test(name)) throw new RangeError(`${name} is no name for a BPF object`);
  for (let i = 0; i < name.length; i++) attr.setUint8(at + i, name.charCodeAt(i));
}

/** Up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
