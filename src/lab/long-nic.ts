/**
 * A NetVSC stand-in that delivers packets longer than its MTU, as hv_netvsc does when its host merges TCP segments. It is a
 * tap, whose writes no MTU limits. The owner plays the host: it delivers frames to the guest and receives the guest's.
 *
 * One thread. The device is deleted when its descriptor is closed.
 */
import { check } from '../errors.ts';
import { Assembler } from '../kernel/assembler.ts';
import { Bpf } from '../kernel/bpf.ts';
import { inNamespace } from '../kernel/namespace.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import { checkTun, IFF_NO_PI, IFF_TAP, openTun, TUNSETIFF, tunRequest } from '../kernel/tun.ts';
import { QUEUE_LENGTH } from '../paths/tap/open.ts';

const CSUM_LEVEL = 135;
/** BPF_CSUM_LEVEL_INC: turns CHECKSUM_NONE into CHECKSUM_UNNECESSARY. */
const INC = 1;
const NEXT = -1;
/** More than a frame that the guest sends. */
const BUFFER_BYTES = 16 * 1024;

export class LongNic {
  readonly name: string;
  readonly ifindex: number;
  readonly #shim: Shim;
  readonly #namespace: string;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #fd: number;
  #verified = -1;

  private constructor(shim: Shim, namespace: string, name: string, fd: number, ifindex: number) {
    this.#shim = shim;
    this.#namespace = namespace;
    this.name = name;
    this.#fd = fd;
    this.ifindex = ifindex;
  }

  /** Creates the device in the namespace and sets it up. @throws ERR_NO_TUN, ERR_PERMISSION, ERR_KERNEL */
  static create(
    shim: Shim,
    namespace: string,
    { name = 'eth9', mtu = 1500 }: { name?: string; mtu?: number } = {},
  ): LongNic {
    return inNamespace(shim, namespace, () => {
      const fd = openTun(shim);
      try {
        checkTun(shim.ioctl(fd, TUNSETIFF, tunRequest(name, IFF_TAP | IFF_NO_PI)));
        const netlink = RtNetlink.open(shim);
        try {
          const { ifindex } = netlink.link(name)!;
          netlink.setLink(ifindex, { mtu, txQueueLength: QUEUE_LENGTH });
          netlink.setLink(ifindex, { up: true });
          return new LongNic(shim, namespace, name, fd, ifindex);
        } finally {
          netlink.close();
        }
      } catch (error) {
        shim.close(fd);
        throw error;
      }
    });
  }

  /** Delivers a frame of up to 64 KiB to the guest. @throws ERR_KERNEL */
  deliver(frame: Uint8Array): void {
    check(this.#shim.write(this.#fd, frame, frame.length), 'write', { device: this.name });
  }

  /** The next frame that the guest has sent, or undefined. Valid until the next call. */
  take(): Uint8Array | undefined {
    const length = this.#shim.read(this.#fd, this.#buffer, BUFFER_BYTES);
    return length > 0 ? this.#buffer.subarray(0, length) : undefined;
  }

  /**
   * From now on the guest treats every checksum as verified by the device, even a wrong one. Call it before a port is opened
   * on the device. @throws ERR_KERNEL
   */
  verify(): void {
    const program = new Assembler().movImm(2, INC).call(CSUM_LEVEL).movImm(0, NEXT).exit().assemble();
    this.#verified = inNamespace(this.#shim, this.#namespace, () => {
      const bpf = new Bpf(this.#shim);
      const loaded = bpf.load('sched_cls', 'twinpath_lab', program);
      const link = bpf.attachTcx(loaded, this.ifindex, 'ingress');
      this.#shim.close(loaded);
      return check(link, 'bpf(LINK_CREATE, TCX)', { device: this.name });
    });
  }

  close(): void {
    if (this.#verified >= 0) this.#shim.close(this.#verified);
    if (this.#fd >= 0) this.#shim.close(this.#fd);
    this.#verified = this.#fd = -1;
  }
}
