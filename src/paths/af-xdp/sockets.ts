/**
 * The AF_XDP sockets of one path: one per port queue, which share one UMEM, that is all frames (kernel 5.10,
 * net/xdp/xsk.c, xsk_bind). A frame received anywhere may be sent anywhere; which socket holds which is the ledger's
 * business. Each lives in the path slot of its queue. Coordinator only.
 */
import { check, Errno, TwinpathError } from '../../errors.ts';
import { retryBriefly } from '../../kernel/readiness.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { SOL_XDP } from '../../kernel/xdp-statistics.ts';
import { STEPS } from '../../memory/abi.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { Driver, type PathId, type QueueAddress, Reader } from '../../memory/layout.ts';
import { askForXsk, xskRequest, xskStep } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import { everyStep } from '../every-step.ts';

const XDP_OPTIONS = 8;
const OPTION_ZEROCOPY = 1;
/** What a bind ends in that would end so in another mode too. */
const GONE: readonly number[] = [Errno.EBUSY, Errno.ENODEV, Errno.ENETDOWN];

const BIND_SHARED_UMEM = 1 << 0;
const BIND_COPY = 1 << 1;
const BIND_NEED_WAKEUP = 1 << 3;

/** The rings of an io_uring of ours are smaller; kernels from 6.13 on account for them (io_uring/memmap.c). */
const URING_BYTES = 2 ** 20;

/** The device that the sockets are bound to, by its name and number of now. */
interface Bound {
  readonly name: string;
  readonly ifindex: number;
}

export class XskSockets {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #busy: (detail: string) => never;

  /** @param busy throws ERR_DEVICE_BUSY */
  constructor(shim: Shim, memory: Memory, port: number, path: PathId, busy: (detail: string) => never) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.#busy = busy;
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
    if (slot.driver === Driver.AF_XDP) this.#shim.xskClose(xskRequest(this.#memory, this.#address(queue)));
    slot.close();
  }

  /**
   * Opens and binds a socket for each of the device's first queues.
   *
   * @param wanted whether zero-copy is, if all of them can have it
   * @returns whether they have. @throws TwinpathError
   */
  bindAll(device: Bound, serving: number, wanted: boolean): boolean {
    const zeroCopy = this.#bindFirst(device, wanted);
    for (let queue = 1; queue < serving; queue++) {
      // In the mode of the first, or not at all: `xp_assign_dev_shared`, net/xdp/xsk_buff_pool.c.
      const bound = this.#bind(device, queue, BIND_SHARED_UMEM);
      if (bound < 0 && zeroCopy && !GONE.includes(bound)) {
        everyStep(this.closings);
        return this.bindAll(device, serving, false);
      }
      this.#checkBound(device, bound, queue);
    }
    const reader = zeroCopy ? Reader.DRIVER : Reader.ASKED;
    for (let queue = 0; queue < serving; queue++) this.slot(queue).reader = reader;
    return zeroCopy;
  }

  /** The kernel lets go of a queue that was just closed in a work item (xp_put_pool). */
  #bindFirst(device: Bound, zeroCopy: boolean): boolean {
    const flags = BIND_NEED_WAKEUP | (zeroCopy ? 0 : BIND_COPY);
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

  #bind(device: Bound, queue: number, flags: number): number {
    const fd = this.#open(device, queue);
    const umem = queue === 0 ? 0 : this.slot(0).fd;
    return this.#shim.xskBind(fd, device.ifindex, queue, flags, umem);
  }

  #checkBound({ name }: Bound, bound: number, queue: number): void {
    if (bound === Errno.EBUSY) this.#busy(`its queue ${queue} belongs to another AF_XDP socket`);
    check(bound, 'bind(AF_XDP)', { device: `${name} queue ${queue}` });
  }

  /** The first has the UMEM. */
  #open({ name }: Bound, queue: number): number {
    const address = this.#address(queue);
    const request = askForXsk(this.#memory, address, addressOf(this.#memory.bytes), queue === 0);
    const fd = this.#shim.xskOpen(request);
    const device = `${name} queue ${queue}`;
    const step = STEPS[xskStep(this.#memory, address)]!;
    if (fd === Errno.ENOBUFS && step === 'setsockopt(XDP_UMEM_REG)') this.#mayNotLock(device, step);
    check(fd, step, { device });
    this.slot(queue).open(Driver.AF_XDP, { fd, reader: Reader.ASKED });
    return fd;
  }

  /**
   * The sockets account for all frames once, and so does the io_uring of each tap queue that has them registered:
   * the user's locked memory, which the kernel counts over all of the user's processes.
   */
  #mayNotLock(device: string, syscall: string): never {
    const { framesBytes, geometry } = this.#memory.layout;
    const { ports, queues } = geometry;
    const kibibytes = Math.ceil((ports * ((1 + queues) * framesBytes + 2 * queues * URING_BYTES)) / 1024);
    throw new TwinpathError('ERR_PERMISSION', {
      ...{ device, syscall, errno: -Errno.ENOBUFS },
      detail: `its ${framesBytes / 2 ** 20} MiB of frames exceed RLIMIT_MEMLOCK`,
      hint: `Give the process CAP_IPC_LOCK, or a limit of at least ${kibibytes} KiB: "ulimit -l ${kibibytes}", or LimitMEMLOCK=${kibibytes}K for systemd.`,
    });
  }

  #address(queue: number): QueueAddress {
    return { port: this.#port, queue, path: this.#path };
  }
}
