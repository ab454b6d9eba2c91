/**
 * bpf(2): maps, programs and links, without libbpf. bpf-attributes.ts has the layouts.
 *
 * Any thread may use it; each thread makes its own {@link Bpf}, and descriptors may pass between threads. The calls are
 * slow: attaching and detaching XDP takes RTNL, which the kernel holds for seconds while the host plugs a VF. So only the
 * coordinator makes them.
 *
 * Everything that is attached here is a bpf_link, which lives as long as its descriptor. When the process ends, even by
 * SIGKILL, the kernel detaches the programs; test/system/bpf.test.ts shows it for XDP and tcx. If the *device* goes
 * first, the link stays without a device, and its `ifindex` is 0.
 */
import { computingHint } from '../capabilities.ts';
import { check, Errno, TwinpathError } from '../errors.ts';
import {
  type Attributes,
  Command,
  detachAttributes,
  elementAttributes,
  infoAttributes,
  infoOf,
  keyAttributes,
  linkUpdateAttributes,
  logOf,
  MapType,
  mapAttributes,
  mapValueOf,
  type ProgramType,
  programAttributes,
  programIdsOf,
  queryAttributes,
  type TcDirection,
  tcxLinkAttributes,
  testAttributes,
  testResultOf,
  textOf,
  type XdpMode,
  xdpLinkAttributes,
} from './bpf-attributes.ts';
import type { Shim } from './shim.ts';

export type { ProgramType, XdpMode } from './bpf-attributes.ts';

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

/** `enum bpf_link_type`, the types that Twinpath makes. */
export const LinkType = { xdp: 6, tcx: 11 } as const;

/** Offsets inside `struct bpf_link_info` (the same for XDP and tcx) and `struct bpf_prog_info`. */
const LinkInfoField = { type: 0, id: 4, programId: 8, ifindex: 16, bytes: 24 } as const;
const ProgramInfoField = { type: 0, id: 4, name: 64, bytes: 80 } as const;

/** BPF_OBJ_NAME_LEN with its final NUL. */
const NAME_BYTES = 16;
const LOG_BYTES = 64 * 1024;
const LOG_LINES = 4;
const LOAD_ATTEMPTS = 20;
/** Room for what a test run adds to a frame: tags, or the 256 bytes in front of a packet. */
const TEST_GROWTH = 256;

export class Bpf {
  readonly #shim: Shim;

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  /**
   * Creates a map from queue number to AF_XDP socket. A map lives as long as its descriptor or a program that uses it.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL
   */
  xskMap(entries: number): number {
    return this.#createMap(MapType.XSKMAP, entries, 4, `an XSKMAP of ${entries}`);
  }

  /**
   * Creates a map whose only entry, at index 0, is that device, for as long as the device exists: the kernel removes the entry
   * with the device (kernel/bpf/devmap.c, dev_map_notification). The device is of the calling thread's network namespace.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL: EINVAL (no such device)
   */
  presenceMap(ifindex: number): number {
    const fd = this.#createMap(MapType.DEVMAP, 1, 4, 'a DEVMAP of one device');
    try {
      this.updateMap(fd, 0, ifindex);
    } catch (error) {
      this.#shim.close(fd);
      throw error;
    }
    return fd;
  }

  /**
   * Creates a map of one value: eight bytes, at first 0, which programs and Twinpath share. It holds a setting of a
   * program, or a counter.
   *
   * @returns the descriptor
   * @throws ERR_PERMISSION, ERR_KERNEL
   */
  valueMap(): number {
    return this.#createMap(MapType.ARRAY, 1, 8, 'an array of one value');
  }

  /** Stores a number below 2^32 in a {@link valueMap}; programs see it from their next packet on. @throws ERR_KERNEL */
  setValue(fd: number, value: number): void {
    this.#updateMap(fd, 0, value, 'the value');
  }

  /** The number in a {@link valueMap}. @throws ERR_KERNEL: EBADF */
  value(fd: number): number {
    const element = elementAttributes(fd, 0);
    check(this.#call(Command.MAP_LOOKUP_ELEM, element), 'bpf(MAP_LOOKUP_ELEM)');
    return mapValueOf(element);
  }

  /**
   * Sets a slot; the old value is replaced between two packets. The value of an XSKMAP is the descriptor of a bound
   * socket.
   *
   * @throws ERR_KERNEL: E2BIG (no such slot), EBADF, EOPNOTSUPP (the socket has no RX ring)
   */
  updateMap(fd: number, key: number, value: number): void {
    this.#updateMap(fd, key, value, `slot ${key}`);
  }

  /**
   * Empties a slot. Packets that were already past their look-up may still reach the socket; closing it waits for
   * those.
   *
   * @returns false if the map reports that the slot was empty; an XSKMAP never does (xsk_map_delete_elem)
   * @throws ERR_KERNEL: EINVAL (no such slot), EBADF
   */
  deleteMap(fd: number, key: number): boolean {
    const result = this.#call(Command.MAP_DELETE_ELEM, keyAttributes(fd, key));
    if (result === Errno.ENOENT) return false;
    check(result, 'bpf(MAP_DELETE_ELEM)', { detail: `slot ${key}` });
    return true;
  }

  /**
   * Has the kernel verify and compile a program. `name` is at most 15 letters, digits, `_` and `.`; `bpftool` and
   * `ip link` show it.
   *
   * @param boundTo ifindex of the device whose driver's functions the program calls; it can be attached there only
   * @returns the descriptor
   * @throws ERR_PERMISSION, or ERR_KERNEL with the verifier's last lines in `detail`
   */
  load(type: ProgramType, name: string, code: Uint8Array, boundTo = 0): number {
    const first = this.#load(programAttributes(type, name, code, 0, boundTo));
    if (first >= 0) return first;
    // Only a rejected program is loaded again for its log. Logging slows the verifier, and a log buffer that is too
    // small makes a good program fail with ENOSPC.
    let detail = `program ${name}`;
    if (first === Errno.EINVAL || first === Errno.EACCES) {
      const attributes = programAttributes(type, name, code, LOG_BYTES, boundTo);
      const second = this.#load(attributes);
      if (second >= 0) return second;
      const lines = logOf(attributes).split('\n').filter(Boolean);
      if (lines.length > 0) {
        // Positions in a packet that the program computes take CAP_PERFMON (sanitize_err in kernel/bpf/verifier.c).
        if (lines.some((line) => /prohibited for !root|pointer (-= pointer )?prohibited/.test(line))) {
          throw new TwinpathError('ERR_PERMISSION', {
            syscall: 'bpf(PROG_LOAD)',
            errno: -first,
            detail,
            hint: computingHint(),
          });
        }
        // The verifier wrote a log, so its EACCES means a bad program and not a missing permission.
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
   * Attaches an XDP program; waits for RTNL. In native mode many drivers (mlx5, mana) reset the device's rings.
   *
   * @returns the link's descriptor, or a negative errno for the caller to act on: EOPNOTSUPP (no native mode here),
   *   EBUSY (another program holds this mode), EEXIST (another program holds the other mode, or the device above
   *   holds one), EINVAL (no such device)
   */
  attachXdp(programFd: number, ifindex: number, mode: XdpMode): number {
    return this.#call(Command.LINK_CREATE, xdpLinkAttributes(programFd, ifindex, mode));
  }

  /**
   * Attaches a tc program after all others of that hook, or before them.
   *
   * @returns the link's descriptor, or a negative errno: EINVAL before Linux 6.6, ENODEV
   */
  attachTcx(programFd: number, ifindex: number, where: TcDirection, first = false): number {
    return this.#call(Command.LINK_CREATE, tcxLinkAttributes(programFd, ifindex, where, first));
  }

  /**
   * Replaces the program of a link: each packet meets the old program or the new one. An XDP driver that has a program
   * already exchanges it without a reset (mlx5e_xdp_set in mlx5/core/en_main.c resets for the first and the last only).
   * XDP links since Linux 5.9 (bpf_xdp_link_update in net/core/dev.c), tcx since 6.6 (tcx_link_update in
   * kernel/bpf/tcx.c). Waits for RTNL.
   *
   * @returns 0, or a negative errno: ENOLINK (the device is gone), EINVAL (the kernel cannot)
   */
  updateLink(linkFd: number, programFd: number): number {
    return this.#call(Command.LINK_UPDATE, linkUpdateAttributes(linkFd, programFd));
  }

  /**
   * Runs an XDP or sched_cls program over a frame without a device (net/bpf/test_run.c). A frame has at least 14 bytes, and
   * must fit one page with its headroom. Newer kernels refuse a sched_cls program an untagged IP frame without a whole IP
   * header. The frame of a sched_cls program keeps its first VLAN tag, which received packets have in the sk_buff instead.
   *
   * @returns what the program returned, and the frame afterwards
   * @throws ERR_KERNEL: EINVAL (such a frame, or another type of program), EBADF
   */
  testRun(programFd: number, frame: Uint8Array): { readonly result: number; readonly frame: Uint8Array } {
    const attributes = testAttributes(programFd, frame, frame.length + TEST_GROWTH);
    check(this.#call(Command.PROG_TEST_RUN, attributes), 'bpf(PROG_TEST_RUN)', {
      detail: `a frame of ${frame.length} bytes`,
    });
    return testResultOf(attributes, frame.length);
  }

  /**
   * Ends a link and closes its descriptor: no packet enters the program afterwards. Works for a link whose device is
   * gone, too.
   */
  detach(linkFd: number): void {
    // Closing the last descriptor would end the link too; this ends it even if another process holds a copy.
    // The errno does not matter: with ENOLINK, for one, the device went first.
    this.#call(Command.LINK_DETACH, detachAttributes(linkFd));
    this.#shim.close(linkFd);
  }

  /** @throws ERR_KERNEL: EBADF, EINVAL (not a link) */
  linkInfo(linkFd: number): LinkInfo {
    const info = this.#info(linkFd, LinkInfoField.bytes);
    return {
      type: info.getUint32(LinkInfoField.type, true),
      id: info.getUint32(LinkInfoField.id, true),
      programId: info.getUint32(LinkInfoField.programId, true),
      ifindex: info.getUint32(LinkInfoField.ifindex, true),
    };
  }

  /** @throws ERR_KERNEL: EBADF, EINVAL (not a program) */
  programInfo(programFd: number): ProgramInfo {
    const info = this.#info(programFd, ProgramInfoField.bytes);
    return {
      type: info.getUint32(ProgramInfoField.type, true),
      id: info.getUint32(ProgramInfoField.id, true),
      name: textOf(new Uint8Array(info.buffer, info.byteOffset + ProgramInfoField.name, NAME_BYTES)),
    };
  }

  /** Whether the kernel has tcx hooks (Linux 6.6). */
  hasTcx(ifindex: number): boolean {
    return this.#call(Command.PROG_QUERY, queryAttributes(ifindex, 'ingress')) >= 0;
  }

  /** Ids of a hook's tcx programs, in the order in which packets pass them; empty if there is no such device. */
  tcxPrograms(ifindex: number, where: TcDirection): number[] {
    const query = queryAttributes(ifindex, where);
    return this.#call(Command.PROG_QUERY, query) < 0 ? [] : programIdsOf(query);
  }

  #createMap(type: number, entries: number, valueBytes: number, detail: string): number {
    const attributes = mapAttributes(type, entries, valueBytes);
    return check(this.#call(Command.MAP_CREATE, attributes), 'bpf(MAP_CREATE)', { detail });
  }

  #updateMap(fd: number, key: number, value: number, detail: string): void {
    const element = elementAttributes(fd, key, value);
    check(this.#call(Command.MAP_UPDATE_ELEM, element), 'bpf(MAP_UPDATE_ELEM)', { detail });
  }

  /**
   * The verifier gives up with EAGAIN if its thread has to handle a signal or work from elsewhere in the kernel, a
   * tracer's for example (do_check in verifier.c). The program is not the cause, so it is loaded again.
   */
  #load(attributes: Attributes): number {
    for (let attempt = 1; ; attempt++) {
      const result = this.#call(Command.PROG_LOAD, attributes);
      if (result !== Errno.EAGAIN || attempt === LOAD_ATTEMPTS) return result;
    }
  }

  /** The first bytes of the kernel's description of an object. */
  #info(fd: number, bytes: number): DataView {
    const attributes = infoAttributes(fd, bytes);
    const result = this.#call(Command.OBJ_GET_INFO_BY_FD, attributes);
    check(result, 'bpf(OBJ_GET_INFO_BY_FD)', { detail: `descriptor ${fd}` });
    return infoOf(attributes);
  }

  #call(command: number, { block, size }: Attributes): number {
    return this.#shim.bpf(command, block, size);
  }
}
