/**
 * The AF_XDP sockets of one path: one per port queue. They share one UMEM with all frames (kernel 5.10, net/xdp/xsk.c,
 * xsk_bind), so each can send a frame that another has received. A socket's descriptor and rings are in the path slot of
 * its queue. Coordinator only.
 */
import { check, Errno, TwinpathError } from '../../errors.ts';
import { kernelIsAtLeast } from '../../kernel/machine.ts';
import { NetdevNetlink } from '../../kernel/netdev-netlink.ts';
import { retryBriefly } from '../../kernel/readiness.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { SOL_XDP } from '../../kernel/xdp-statistics.ts';
import { STEPS } from '../../memory/abi.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { CHUNK, hasChains } from '../../memory/chains.ts';
import { Driver, type PathId, type QueueAddress, Reader } from '../../memory/layout.ts';
import { askForXsk, xskRequest, xskStep } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import { maxMtu } from '../../net/packet-size.ts';
import { everyStep } from '../every-step.ts';
import { tooLongForChunk } from '../packet-limit.ts';
import { deviceBusy } from './refusal.ts';

const XDP_OPTIONS = 8;
const OPTION_ZEROCOPY = 1;
/** Errors of a bind that another mode would not avoid. */
const FATAL: readonly number[] = [Errno.EBUSY, Errno.ENODEV, Errno.ENETDOWN];

const BIND_SHARED_UMEM = 1 << 0;
const BIND_COPY = 1 << 1;
const BIND_NEED_WAKEUP = 1 << 3;
/** XDP_USE_SG: packets may be chains. */
const BIND_CHAINS = 1 << 4;

/** Linux 6.6 has chains (XDP_USE_SG). */
const KERNEL_CHAINS = kernelIsAtLeast(6, 6);
/** In copy mode we send them from 6.17 on, where the kernel reports how far it has read: see recall.ts. */
const COPY_CHAINS = kernelIsAtLeast(6, 17);

/** Whether sockets of that device can have chains: in copy mode, or by its driver. @throws ERR_KERNEL, ERR_PERMISSION */
function mayHaveChains(shim: Shim, ifindex: number): boolean {
  if (COPY_CHAINS || !KERNEL_CHAINS) return COPY_CHAINS;
  const netdev = NetdevNetlink.open(shim);
  try {
    return netdev.zeroCopySegments(ifindex) > 1;
  } finally {
    netdev.close();
  }
}

/** More than the rings of one io_uring of ours. Kernels from 6.13 on account for them (io_uring/memmap.c). */
const URING_BYTES = 2 ** 20;

/** The device that the sockets are bound to. */
interface BoundDevice {
  readonly name: string;
  readonly ifindex: number;
}

export class XskSockets {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;

  constructor(shim: Shim, memory: Memory, port: number, path: PathId) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
  }

  slot(queue: number): PathSlot {
    return this.#memory.slot(this.#address(queue));
  }

  /** Steps that close each socket: see `everyStep`. */
  get closings(): (() => void)[] {
    return Array.from(
      { length: this.#memory.layout.geometry.queues },
      (_, queue) => () => this.#close(queue),
    );
  }

  #close(queue: number): void {
    const slot = this.slot(queue);
    if (slot.driver === Driver.AF_XDP) {
      this.#shim.xskClose(xskRequest(this.#memory, this.#address(queue)), this.#memory.bytes);
    }
    slot.close();
  }

  /**
   * Opens and binds a socket for each of the device's first queues.
   *
   * @param wanted whether to use zero-copy if all of them can
   * @returns whether they use it. @throws TwinpathError
   */
  bindAll(device: BoundDevice, serving: number, wanted: boolean): boolean {
    const zeroCopy = this.#bindFirst(device, wanted);
    for (let queue = 1; queue < serving; queue++) {
      // The kernel binds it in the mode of the first, or fails: `xp_assign_dev_shared`, net/xdp/xsk_buff_pool.c.
      const bound = this.#bind(device, queue, BIND_SHARED_UMEM);
      if (bound < 0 && zeroCopy && !FATAL.includes(bound)) {
        everyStep(this.closings);
        return this.bindAll(device, serving, false);
      }
      this.#checkBound(device, bound, queue);
    }
    const reader = zeroCopy ? Reader.DRIVER : Reader.ASKED;
    const chains = this.#wantsChains && (zeroCopy || COPY_CHAINS) ? 1 : 0;
    for (let queue = 0; queue < serving; queue++) Object.assign(this.slot(queue), { reader, chains });
    return zeroCopy;
  }

  /**
   * Before the device is touched, which would be reset with each attempt to open it.
   *
   * @throws ERR_DEVICE_SETTINGS if it has packets that need chains, and its sockets cannot have them
   */
  refuseLong({ name, mtu, ifindex }: BoundDevice & { readonly mtu: number }): void {
    if (mtu > maxMtu(CHUNK) && !mayHaveChains(this.#shim, ifindex)) throw tooLongForChunk(name, mtu);
  }

  get #wantsChains(): boolean {
    return hasChains(this.#memory.layout.geometry.frameSize) && KERNEL_CHAINS;
  }

  /** EBUSY may pass: the kernel releases the queue of a closed socket later, in a work item (xp_put_pool). */
  #bindFirst(device: BoundDevice, zeroCopy: boolean): boolean {
    // A driver whose zero-copy has no chains gets copy mode then (xp_assign_dev), which has them on every device.
    const flags = BIND_NEED_WAKEUP | (zeroCopy ? 0 : BIND_COPY) | (this.#wantsChains ? BIND_CHAINS : 0);
    const bound = retryBriefly(
      () => {
        const result = this.#bind(device, 0, flags);
        if (result === Errno.EBUSY) this.#close(0);
        return result;
      },
      zeroCopy ? [] : [Errno.EBUSY],
    );
    this.#checkBound(device, bound, 0);
    const options = new Int32Array(1);
    check(
      this.#shim.getsockopt(this.slot(0).fd, SOL_XDP, XDP_OPTIONS, options, 4),
      'getsockopt(XDP_OPTIONS)',
    );
    return (options[0]! & OPTION_ZEROCOPY) !== 0;
  }

  #bind(device: BoundDevice, queue: number, flags: number): number {
    const fd = this.#open(device, queue);
    const umem = queue === 0 ? 0 : this.slot(0).fd;
    return this.#shim.xskBind(fd, device.ifindex, queue, flags, umem);
  }

  #checkBound({ name }: BoundDevice, bound: number, queue: number): void {
    if (bound === Errno.EBUSY) throw deviceBusy(name, `its queue ${queue} belongs to another AF_XDP socket`);
    check(bound, 'bind(AF_XDP)', { device: `${name} queue ${queue}` });
  }

  /** The first socket registers the UMEM. */
  #open({ name }: BoundDevice, queue: number): number {
    const address = this.#address(queue);
    const request = askForXsk(this.#memory, address, addressOf(this.#memory.bytes), queue === 0);
    const fd = this.#shim.xskOpen(request, this.#memory.bytes);
    const device = `${name} queue ${queue}`;
    const step = STEPS[xskStep(this.#memory, address)]!;
    if (fd === Errno.ENOBUFS && step === 'setsockopt(XDP_UMEM_REG)') this.#lockLimitExceeded(device, step);
    check(fd, step, { device });
    this.slot(queue).open(Driver.AF_XDP, { fd, reader: Reader.ASKED });
    return fd;
  }

  /**
   * All frames count as locked memory once for the sockets, and once for the io_uring of each tap queue that registers
   * them. The kernel adds up the locked memory of all processes of the user.
   */
  #lockLimitExceeded(device: string, syscall: string): never {
    const { framesBytes, geometry } = this.#memory.layout;
    const { ports, queues } = geometry;
    const kibibytes = Math.ceil((ports * ((1 + queues) * framesBytes + 2 * queues * URING_BYTES)) / 1024);
    throw new TwinpathError('ERR_PERMISSION', {
      device,
      syscall,
      errno: -Errno.ENOBUFS,
      detail: `its ${framesBytes / 2 ** 20} MiB of frames exceed RLIMIT_MEMLOCK`,
      hint: `Give the process CAP_IPC_LOCK, or a limit of at least ${kibibytes} KiB: "ulimit -l ${kibibytes}", or LimitMEMLOCK=${kibibytes}K for systemd.`,
    });
  }

  #address(queue: number): QueueAddress {
    return { port: this.#port, queue, path: this.#path };
  }
}
