/**
 * Opening a multi-queue tap, and waiting until it is gone. It is not persistent: the kernel removes it when its last
 * descriptor is closed, also by a kill. Coordinator only.
 */
import { writeFileSync } from 'node:fs';
import { check, TwinpathError } from '../../errors.ts';
import { Bpf } from '../../kernel/bpf.ts';
import { type QueueMapping, tapFilter, tapSteering } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import {
  checkTun,
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  openTun,
  TUNSETIFF,
  tunRequest,
} from '../../kernel/tun.ts';

const TUNSETSTEERINGEBPF = 0x800454e0;
const TUNSETFILTEREBPF = 0x800454e1;

/** Packets that the kernel keeps for a tap queue while no worker reads it. The kernel's default is 1000. */
export const QUEUE_LENGTH = 4096;

/** Maximum wait for a closed tap to be gone. After that it goes by itself. */
const VANISH_MILLIS = 250;

export interface TapRequest {
  /** With %d for a number that the kernel chooses. At most 15 bytes when filled in. */
  readonly template: string;
  readonly queues: number;
  readonly mtu: number;
  /** Flags of TUNSETIFF in addition to those of every tap of ours. */
  readonly flags?: number;
}

export interface OpenTap {
  /** One for each queue, nonblocking. */
  readonly fds: readonly number[];
  readonly ifindex: number;
  readonly name: string;
}

/**
 * Opens a tap that is up and sends nothing by itself.
 *
 * @param opened called after each step with what is open so far, and with an empty tap when it closes everything again. An
 *   ifindex that is not known yet is 0
 * @throws ERR_NO_TUN, ERR_KERNEL, ERR_PERMISSION, having closed what it opened
 */
export function openTap(
  shim: Shim,
  netlink: RtNetlink,
  request: TapRequest,
  opened: (tap: OpenTap) => void = () => {},
): OpenTap {
  const fds: number[] = [];
  try {
    const name = openQueues(shim, request, (fd) => {
      fds.push(fd);
      opened({ fds, ifindex: 0, name: '' });
    });
    const link = netlink.link(name);
    if (link === undefined) throw new TwinpathError('ERR_DEVICE_NOT_FOUND', { device: name });
    const tap = { fds, ifindex: link.ifindex, name };
    opened(tap);
    silence(name);
    const { mtu } = request;
    netlink.setLink(tap.ifindex, { mtu, txQueueLength: QUEUE_LENGTH, noArp: true, addrGenMode: 1 });
    netlink.setNoqueue(tap.ifindex); // it has a queue of its own, and drops packets when that is full, without backpressure
    netlink.setLink(tap.ifindex, { up: true });
    return tap;
  } catch (error) {
    for (const fd of fds.splice(0)) shim.close(fd);
    opened({ fds: [], ifindex: 0, name: '' });
    throw error;
  }
}

/** @returns the name that the kernel chose */
function openQueues(
  shim: Shim,
  { template, queues, flags = 0 }: TapRequest,
  add: (fd: number) => void,
): string {
  const request = tunRequest(template, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | flags);
  for (let queue = 0; queue < queues; queue++) {
    const fd = openTun(shim);
    add(fd);
    checkTun(shim.ioctl(fd, TUNSETIFF, request));
  }
  const name = new Uint8Array(request.buffer, 0, 16);
  return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
}

/** The kernel must send nothing on the tap by itself: router solicitations would reach the handler. */
function silence(name: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, '1');
  } catch {
    // A kernel without IPv6 sends nothing.
  }
}

/** Selects the queue of the tap for each packet. One descriptor sets it for all queues. @throws ERR_KERNEL */
export function steer(shim: Shim, fd: number, mapping: QueueMapping): void {
  const program = new Bpf(shim).load('socket_filter', 'twinpath_steer', tapSteering(mapping));
  setProgram(shim, fd, 'TUNSETSTEERINGEBPF', TUNSETSTEERINGEBPF, program);
}

/** From now on the tap brings up captured packets only. One descriptor sets it for all queues. @throws ERR_KERNEL */
export function takeOnlyCaptured(shim: Shim, fd: number): void {
  const program = new Bpf(shim).load('socket_filter', 'twinpath_filter', tapFilter());
  setProgram(shim, fd, 'TUNSETFILTEREBPF', TUNSETFILTEREBPF, program);
}

function setProgram(shim: Shim, fd: number, name: string, request: number, program: number): void {
  const result = shim.ioctl(fd, request, new Int32Array([program]));
  shim.close(program);
  check(result, `ioctl(${name})`, { device: '/dev/net/tun' });
}

/**
 * Waits until a closed tap is gone. A closed io_uring holds its files for a few ms more, until a kernel work item has run
 * (io_uring.c, io_ring_exit_work).
 */
export function awaitVanishing(netlink: RtNetlink, ifindex: number): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let millis = 0; millis < VANISH_MILLIS; millis++) {
    if (netlink.link(ifindex) === undefined) return;
    Atomics.wait(never, 0, 0, 1);
  }
}
