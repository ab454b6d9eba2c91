/**
 * The drawing of the shared memory.
 *
 * One `WebAssembly.Memory` (page-aligned, shared, of fixed size) holds everything that two threads, or a thread and the
 * kernel, share. geometry.ts computes where each part starts; blocks.ts names the words of the four kinds of blocks. Only
 * src/memory knows byte offsets.
 *
 * ```
 *   module statics  data of a handler in WebAssembly, one for all workers     (w)
 *   control page    magic, size, stop word (a), descriptors                    (s)
 *   journal         every switch of a queue: from, to, reason, times          (s)
 *   checkpoints     the coordinator's state, for its successor                (c)
 *   descriptors     the coordinator's open descriptors, 0: a free entry       (c)
 *   worker blocks   one per queue number: pool, sleep, audit                  (w)
 *   queue blocks    one per (port, queue): owner (s), acknowledgement, counters (w)
 *   path slots      one per (port, queue, path): descriptors (c), counters    (w)
 *   bursts          one per worker: the packets in hand, struct of arrays     (w)
 *   pool stacks     one per worker: free frames; one owner per frame          (w)
 *   RSS             one block a port: key, hash types, table of queues         (s)
 *   places          of the packets in frames of 16384 bytes that are sent     (w)
 *   MAC addresses   one a port                                                (c)
 *   replay rings    packets of a dead worker, for its successor               (w)
 *   handoff rings   packets from worker to worker, per port and pair          (w)(w')
 *   return rings    frames on their way back to their worker, per pair        (w)(w')
 *   bells           one a port: incremented with what is delivered            (w)(a)
 *   deliveries      packets for the application, per port and queue           (w)(a)
 *   relays          copies of packets from ports of other memories, per queue (other)(w)
 *   capture orders  which packets are captured: port, filter                  (t)
 *   capture rings   copies of captured packets, per capture and queue         (w)(t)
 *   module areas    one per worker: context, state and stack of a WASM handler (w)
 *   rings           four per path slot, page aligned; mapped by the kernel    (w)(k)
 *   frames          the packets                                               (w)(k)
 *   host buffers    packets that the machine's own stack sends, up to 64 KiB  (w)(k)
 *   long packets    packets from a tap that are longer than a frame           (w)(k)
 * ```
 *
 * Writers: (a) application thread, (s) supervisor, (c) coordinator, (w) the worker of that queue, (w') another worker,
 * (p) the thread that plays the network of a memory path, (t) the thread of the control socket, (k) kernel. A word has one writer, except words that several
 * threads increment. Words of different writers never share a cache line.
 */

export const MAGIC = 0x54575031; // TWP1

/** Bytes: two cache lines, because x86 fetches pairs. */
export const LINE = 128;

/** Packets of a burst: their headers take two kilobytes of cache, and one system call serves 64 packets. */
export const BURST = 64;

/** The most packets of one in-place call: its fixed cost is small then, and a sender does not wait. See paths/in-place-rings.ts. */
export const IN_PLACE_BURST = 4 * BURST;

/** Bytes the kernel keeps free before each packet (XDP_PACKET_HEADROOM, include/uapi/linux/bpf.h). */
export const HEADROOM = 256;

/** Of these, bytes at a frame's start that paths need for a header of their own (struct virtio_net_hdr). */
export const RESERVED = 16;

/** The paths of a queue. HOST is the machine's own stack. */
export const Path = { NONE: 0, SYNTHETIC: 1, VF: 2, HOST: 3 } as const;
export type PathId = (typeof Path)[keyof typeof Path];
export const PATH_NAMES = ['none', 'synthetic', 'vf', 'host'] as const;
export type PathName = (typeof PATH_NAMES)[number];

/** The paths a queue has slots for. */
export const SLOT_PATHS = [Path.SYNTHETIC, Path.VF, Path.HOST] as const;

/** Names a path slot. */
export interface QueueAddress {
  readonly port: number;
  readonly queue: number;
  readonly path: PathId;
}

/** Rings of a path slot. The tap keeps its CQ and SQEs in RX and TX. */
export const Ring = { FILL: 0, RX: 1, TX: 2, COMPLETION: 3 } as const;
export type RingId = (typeof Ring)[keyof typeof Ring];

/** The driver of a path slot. */
export const Driver = { CLOSED: 0, AF_XDP: 1, TAP: 2, MEMORY: 3, HOST: 4, PROXY: 5, LOOP: 6 } as const;
export type DriverId = (typeof Driver)[keyof typeof Driver];

/**
 * Who reads a transmit ring, which decides whether unread packets may be taken back. NONE: no packet stays unread. ASKED:
 * the reader reads only inside a kick. DRIVER: a driver reads at any time. STOPPED: the same, and the kernel has stopped
 * its device.
 */
export const Reader = { NONE: 0, ASKED: 1, DRIVER: 2, STOPPED: 3 } as const;
export type ReaderId = (typeof Reader)[keyof typeof Reader];

/** Whether a device that drops its packets has a link: the kernel's own messages may be a second late. */
export const Doubt = { NONE: 0, ASKED: 1, LINKED: 2 } as const;
