/**
 * A multi-queue tap tied to the NetVSC: what the NetVSC receives comes up the tap, what is written to
 * the tap leaves by the NetVSC. Coordinator only.
 *
 * The tap is not persistent and its ties are bpf_links: the kernel removes everything when the process
 * dies. On kernels before 6.6 the ties are tc filters, which outlive a killed process; the next start
 * removes them first.
 */
import { writeFileSync } from 'node:fs';
import { check, Errno, errnoName, TwinpathError } from '../../errors.ts';
import { Bpf } from '../../kernel/bpf.ts';
import { tapSteering } from '../../kernel/programs.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { Driver, type KernelCounter, type PathId, PathSlot } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { refuseLongPackets } from '../frame-room.ts';
import type { PathDescription, PathDevice } from '../path.ts';
import { Tie, type TieKind } from './tie.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETSTEERINGEBPF = 0x800454e0;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const O_RDWR_CLOEXEC = 0o2000002;

/** Packets the kernel keeps for a tap queue nobody reads for a moment; its own default is 1000. */
const QUEUE_LENGTH = 4096;

/** How long a closed tap is waited for; after that it goes by itself. */
const VANISH_MILLIS = 250;

export interface TapOptions {
  /** Plain reads and writes even where io_uring works. */
  readonly plain?: boolean;
  readonly tie?: TieKind;
}

export class TapDevice implements PathDevice {
  readonly description: PathDescription;
  readonly #shim: Shim;
  readonly #netlink: RtNetlink;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #link: Link;
  readonly #options: TapOptions;
  #fds: number[] = [];
  #ifindex = 0;
  #tie: Tie | undefined;

  constructor(
    shim: Shim,
    netlink: RtNetlink,
    memory: Memory,
    port: number,
    path: PathId,
    link: Link,
    options: TapOptions,
  ) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.#link = link;
    this.#options = options;
    this.description = { driver: 'tap', device: link.name, mode: '', tie: '' };
  }

  /** The tap's own ifindex: the coordinator must not take it for a VF. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    const { layout, words } = this.#memory;
    refuseLongPackets(this.#link, layout.geometry.frameSize);
    try {
      const name = this.#openQueues(layout.geometry.queues);
      const tap = this.#netlink.link(name);
      if (tap === undefined) throw new TwinpathError('ERR_DEVICE_NOT_FOUND', { device: name });
      this.#ifindex = tap.ifindex;
      this.#steer();
      this.#silence(name);
      this.#netlink.setLink(tap.ifindex, {
        mtu: this.#link.mtu,
        txQueueLength: QUEUE_LENGTH,
        noArp: true,
        addrGenMode: 1,
      });
      this.#netlink.setLink(tap.ifindex, { up: true });
    } catch (error) {
      this.close();
      throw error;
    }
    this.#fds.forEach((fd, queue) => {
      const slot = layout.slot(this.#port, queue, this.#path);
      words[(slot + PathSlot.fd) >> 2] = fd;
      words[(slot + PathSlot.uringFd) >> 2] = 0;
      words[(slot + PathSlot.useUring) >> 2] = this.#options.plain ? 0 : 1;
      words[(slot + PathSlot.rescuable) >> 2] = 1;
      words[(slot + PathSlot.driver) >> 2] = Driver.TAP;
    });
  }

  arm(): void {
    this.#tie = Tie.attach(new Bpf(this.#shim), this.#netlink, this.#shim, {
      netvsc: this.#link.ifindex,
      tap: this.#ifindex,
      device: this.#link.name,
      kind: this.#options.tie ?? 'tcx',
    });
    this.description.tie = this.#tie.name;
    this.description.mode = this.#mode();
  }

  disarm(): void {
    this.#tie?.releaseNetvsc();
  }

  close(): void {
    this.#tie?.release();
    this.#tie = undefined;
    const { layout, words } = this.#memory;
    this.#fds.forEach((fd, queue) => {
      const slot = layout.slot(this.#port, queue, this.#path);
      const ring = words[(slot + PathSlot.uringFd) >> 2]!; // of a worker that was ended before it let go
      if (ring > 0) this.#shim.close(ring);
      words[(slot + PathSlot.uringFd) >> 2] = 0;
      words[(slot + PathSlot.driver) >> 2] = Driver.CLOSED;
      this.#shim.close(fd);
    });
    if (this.#fds.length > 0) this.#vanish();
    this.#fds = [];
    this.#ifindex = 0; // that its link goes is our own doing
  }

  /**
   * Waits until the tap is gone: an io_uring that was closed holds its files until a kernel work item has run
   * (io_uring.c, io_ring_exit_work), a few ms later.
   */
  #vanish(): void {
    const never = new Int32Array(new SharedArrayBuffer(4));
    for (let millis = 0; millis < VANISH_MILLIS; millis++) {
      if (this.#ifindex === 0 || this.#netlink.link(this.#ifindex) === undefined) return;
      Atomics.wait(never, 0, 0, 1);
    }
  }

  /** The tap counts for all its queues together: they are reported on queue 0. */
  dropped(queue: number): Record<KernelCounter, number> {
    const statistics = queue === 0 ? this.#netlink.link(this.#ifindex)?.statistics : undefined;
    return {
      rxDropped: statistics?.txDropped ?? 0,
      rxRingFull: 0,
      rxFillEmpty: 0,
      txInvalid: statistics?.rxDropped ?? 0,
    };
  }

  #openQueues(queues: number): string {
    const request = new DataView(new ArrayBuffer(40)); // struct ifreq
    const template = new TextEncoder().encode('twinpath%d');
    new Uint8Array(request.buffer).set(template);
    request.setUint16(16, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, true);
    for (let queue = 0; queue < queues; queue++) {
      const fd = this.#shim.open('/dev/net/tun', O_RDWR_CLOEXEC);
      if (fd === Errno.ENOENT || fd === Errno.ENODEV || fd === Errno.ENXIO) {
        throw new TwinpathError('ERR_NO_TUN', {
          device: '/dev/net/tun',
          syscall: 'open',
          errno: -fd,
          hint: 'Load the module: modprobe tun. In a container, pass the device in: --device /dev/net/tun.',
        });
      }
      this.#fds.push(check(fd, 'open', { device: '/dev/net/tun' }));
      check(this.#shim.ioctl(fd, TUNSETIFF, request), 'ioctl(TUNSETIFF)', { device: '/dev/net/tun' });
    }
    const name = new Uint8Array(request.buffer, 0, 16);
    return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
  }

  /** Queue q of the NetVSC comes up queue q of the tap: see `tapSteering`. */
  #steer(): void {
    const virtual = this.#link.kind === 'veth' || this.#link.kind === 'bridge';
    const program = new Bpf(this.#shim).load(
      'socket_filter',
      'twinpath_steer',
      tapSteering(virtual ? 'raw' : 'recorded'),
    );
    const result = this.#shim.ioctl(this.#fds[0]!, TUNSETSTEERINGEBPF, new Int32Array([program]));
    this.#shim.close(program);
    check(result, 'ioctl(TUNSETSTEERINGEBPF)', { device: this.#link.name });
  }

  /** The kernel must not speak on the tap by itself: router solicitations would reach the handler. */
  #silence(name: string): void {
    try {
      writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, '1');
    } catch {
      // A kernel without IPv6 has nothing to say.
    }
  }

  #mode(): string {
    const { layout, words } = this.#memory;
    const slot = layout.slot(this.#port, 0, this.#path);
    if (words[(slot + PathSlot.uringFd) >> 2]! > 0) return 'io_uring';
    const refused = words[(slot + PathSlot.uringErrno) >> 2]!;
    return refused === 0 ? 'read/write' : `read/write (io_uring refused: ${errnoName(refused)})`;
  }
}
