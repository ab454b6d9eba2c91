/**
 * The shared memory, drawn. Only src/memory knows byte offsets.
 *
 * One `WebAssembly.Memory` (page-aligned, fixed size, shared) holds everything that two threads, or a thread and the
 * kernel, look at. geometry.ts computes where each part begins; blocks.ts makes objects of the three kinds of blocks.
 *
 * ```
 *   module statics  data of a handler in WebAssembly, one for all workers     (w)
 *   control page    magic, size, stop word                                    (a)
 *   journal         what happened to which queue, when                        (c)
 *   checkpoints     what the coordinator holds, for its successor             (c)
 *   descriptors     its open descriptors, 0 where there is none               (c)
 *   worker blocks   one per queue number: pool, sleep, audit                  (w)
 *   queue blocks    one per (port, queue): ownership (c), answer (w), counters (w)
 *   path slots      one per (port, queue, path): descriptors (c), counters (w)
 *   bursts          one per worker: the packets in hand, struct of arrays     (w)
 *   pool stacks     one per worker: free frames; one owner per frame         (w)
 *   redirection     one table a port: hash to queue                           (s)
 *   replay rings    packets that a dead worker had, for its successor         (w)
 *   MAC addresses   one a port                                                (c)
 *   handoff rings           packets from worker to worker, per port and pair          (w)(w')
 *   return rings      frames on their way back to their worker, per pair        (w)(w')
 *   deliveries      copies of packets for the application, per port and queue (w)(a)
 *   relays          copies of packets from ports of other memories, per queue (other)(w)
 *   module areas    one per worker: context, state and stack of a WASM handler (w)
 *   rings           four per path slot, page aligned; mapped by the kernel    (w)(k)
 *   frames          the packets                                               (w)(k)
 *   host buffers    what the machine's own stack sends, up to 64 KiB each     (w)(k)
 *   long packets    packets from a tap that are longer than a frame           (w)(k)
 * ```
 *
 * Owner tags: (a) application thread, (s) supervisor, (c) coordinator, (w) the one worker of that queue, (w') another
 * worker, (p) the thread that plays the network of a memory path, (k) kernel. A word has one writer, except words that
 * count up, which are added to. Words of different writers never share a cache line.
 */

export const MAGIC = 0x54575031; // TWP1

/** Bytes: two cache lines, because x86 fetches pairs. */
export const LINE = 128;

/** Packets handled together: two cache-resident kilobytes of headers, and one system call each 64. */
export const BURST = 64;

/** Packets of one in-place call, at most, see paths/in-place-rings.ts: what a call of it costs is little then, and a sender does not wait. */
export const IN_PLACE_BURST = 4 * BURST;

/** Bytes the kernel keeps free before each packet (XDP_PACKET_HEADROOM, include/uapi/linux/bpf.h). */
export const HEADROOM = 256;

/** Of these, bytes at a frame's start that paths need for a header of their own (struct virtio_net_hdr). */
export const RESERVED = 16;

/** What a queue transmits on. HOST is the machine's own stack. */
export const Path = { NONE: 0, SYNTHETIC: 1, VF: 2, HOST: 3 } as const;
export type PathId = (typeof Path)[keyof typeof Path];
export const PATH_NAMES = ['none', 'synthetic', 'vf', 'host'] as const;
export type PathName = (typeof PATH_NAMES)[number];

/** Where a path slot belongs. */
export interface QueueAddress {
  readonly port: number;
  readonly queue: number;
  readonly path: PathId;
}

/** The paths a queue has slots for. */
export const SLOT_PATHS = [Path.SYNTHETIC, Path.VF, Path.HOST] as const;

/** Which driver serves a path slot. */
export const Driver = { CLOSED: 0, AF_XDP: 1, TAP: 2, MEMORY: 3, HOST: 4, PROXY: 5, LOOP: 6 } as const;
export type DriverId = (typeof Driver)[keyof typeof Driver];

/**
 * Who reads a transmit ring, and so whether unread packets may be taken back. NONE: nothing is ever unread. ASKED: the
 * reader reads only when asked to. DRIVER: a driver that sends by itself, at any time. STOPPED: the same, and the kernel
 * has stopped its device.
 */
export const Reader = { NONE: 0, ASKED: 1, DRIVER: 2, STOPPED: 3 } as const;
export type ReaderId = (typeof Reader)[keyof typeof Reader];

/** Whether a device that drops what it is given has a link: the kernel's own messages may be a second late. */
export const Doubt = { NONE: 0, ASKED: 1, LINKED: 2 } as const;

/** Rings of a path slot. The tap keeps its CQ and SQEs in RX and TX. */
export const Ring = { FILL: 0, RX: 1, TX: 2, COMPLETION: 3 } as const;
export type RingId = (typeof Ring)[keyof typeof Ring];

// Bytes from the beginning of a block to each of its fields. The first table of a block has Int32 words, which its object
// has as properties; the table of areas has the rest, of which only src/memory and the shim know the inside.

export const CONTROL_WORDS = {
  magic: 0,
  bytes: 4, //           of the whole memory: a reader with another layout notices
  forwarders: 64, //     how many memories have asked for a relay here: each gets a number. Counted up by (a)
  stop: LINE, //         0 run, 1 stop. (a)
} as const;

export const WORKER_WORDS = {
  // (w)
  poolCount: 0, //       free frames on the stack
  auditDone: 4, //       an audit's answer: equals `auditWanted` once the ledger belongs to it
  heartbeat: 64, //           counts up with the handler's calls: it stands still in a call that does not return
  handling: 68, //       the packets the handler has been given: `handlingWord` in words.ts; 0 while it is not running
  lowOnFrames: 72, //         1 while free frames are few: a worker that returns some wakes this one
  // (c)
  auditWanted: LINE, //  asks for an audit by counting up
  doorbell: 2 * LINE, // counted up by (c) and (p): what a worker without a descriptor sleeps on
  doorbellFd: 2 * LINE + 4, // eventfd that wakes the worker
  coordinatorFd: 2 * LINE + 8, // eventfd that wakes the coordinator
  stuck: 2 * LINE + 12, // 1: the last worker was ended because its handler did not return: its packets are dropped
  lease: 2 * LINE + 16, // which thread may serve the queue: datapath/lease.ts. (s), and the worker that takes it
  // anybody
  sleeping: 3 * LINE, // 1 while the worker sleeps: set by (w), taken back by the thread that wakes it
  inbox: 4 * LINE, //    counted up by other workers when they have published something for this one
} as const;
export const WORKER_AREAS = {
  ledger: 8, //          (w) Int32 × LEDGER_FIELDS
  relays: 4 * LINE + 64, // Int32 × RELAYS: who writes to each, 0 nobody. Claimed by compare-exchange
} as const;
export const WORKER_BYTES = 5 * LINE;

export const QUEUE_WORDS = {
  // (c)
  owner: 0, //           `ownerWord` in words.ts
  // (w)
  ack: LINE, //          the last owner word that the worker has put into effect
  drained: LINE + 32, // the last switch: packets taken from the old receive ring,
  rescued: LINE + 36, // packets taken back from the old transmit ring
  suspects: LINE + 56, // packets at the head of the replay ring of which one may be deadly: datapath/replay.ts
} as const;
/** Float64. (w) */
export const QUEUE_TIMES = {
  switchBegan: LINE + 40, // of the last switch, CLOCK_MONOTONIC nanoseconds
  switchEnded: LINE + 48,
} as const;
export const QUEUE_AREAS = {
  kickErrno: LINE + 16, // (w) Int32 per path id: a kick failed with this errno (positive); 0 none
  counters: 2 * LINE, // (w) Float64 × QUEUE_COUNTERS in counters.ts
} as const;
export const QUEUE_BYTES = 5 * LINE;

export const PATH_WORDS = {
  // (c)
  driver: 0, //          a Driver; 0 closed
  incarnation: 4, //     memory path: odd while peers may attach, counts up with every change
  fd: 8, //              to kick and to sleep on: AF_XDP socket or tap queue. PROXY: the queue whose worker sends
  reader: 12, //         a Reader
  useUring: 16, //       tap: 1 io_uring, 0 plain reads and writes; the worker answers in `uringFd`
  inline: 20, //         host path: 1 if packets that the machine's own stack sends come up
  segmentsFd: 24, //     packet socket for large segments, paths/segments.ts; 0 none, or the errno of its refusal
  maxPacketBytes: 28, //        bytes of the longest packet that the path sends: follows the MTU, paths/packet-size.ts
  readsLong: 32, //      tap: 1 if reads take packets longer than a frame whole. Also (w), once one has come
  // (w)
  uringFd: 3 * LINE, //  io_uring of this tap queue; 0 none
  uringErrno: 3 * LINE + 4, // errno with which io_uring was refused; 0 none
  consumed: 3 * LINE + 112, // transmit slots before this cursor are consumed, even if the kernel has not said so yet
  staged: 3 * LINE + 116, // cursor behind the last transmit slot that is staged, published or not
  giving: 3 * LINE + 120, // rings: cursor behind the last slot written, while frames from `staged` on are being given
  // (p)
  peerBusy: 7 * LINE, // memory path: 1 while the peer touches the rings, paths/memory
  // (w)
  readAddress: 8 * LINE + 64, // tap: what single reads and writes did, paths/tap/direct.ts
  readResult: 8 * LINE + 68,
  writeResult: 8 * LINE + 72,
  held: 8 * LINE + 76, // host path: packets read into its buffers and not received
  recalled: 8 * LINE + 80, // AF_XDP before Linux 6.17, paths/af-xdp/recall.ts: descriptors ever taken back;
  recallEnd: 8 * LINE + 84, // those not in the ring again
  recallCount: 8 * LINE + 88,
  recallCompletes: 8 * LINE + 92,
  recallBounced: 8 * LINE + 96,
  bounces: 8 * LINE + 100, // AF_XDP: bounced packets whose frames have not come home
  doubt: 8 * LINE + 104, // a Doubt: asked by (w), answered by (c)
} as const;
export const PATH_AREAS = {
  xsk: LINE, //          (c) `struct tp_xsk`
  uring: 3 * LINE + 16, // (w) `struct tp_uring`
  counters: 4 * LINE, // (w) Float64 × PATH_COUNTERS in counters.ts
  kernel: 6 * LINE, //   (c) Float64 × KERNEL_COUNTERS: what the kernel says it dropped
  inPlace: 8 * LINE, //  (w) rings: `InPlaceWord` in wasm-abi.ts
} as const;
export const PATH_BYTES = 9 * LINE;

/** The frame ledger, in the order it is stored. `accounted` must equal `total`. */
export const LEDGER_FIELDS = [
  ...(['total', 'accounted', 'free', 'fill', 'rx', 'tx', 'completing', 'inHand'] as const),
  'lent', // to other workers, or on the way from or to them
  'borrowed', // of other workers, in the places above: counts against the sum
  'duplicates',
] as const;

/** Bytes to the words of a ring that we, not the kernel, lay out (memory path): as Linux 6.18 does. */
export const OWN_RING = { producer: 0, consumer: LINE, flags: 2 * LINE, desc: 3 * LINE } as const;

/** The same of a handoff ring between two workers: two cursors on lines of their own, then the entries. */
export const WORKER_RING = { producer: 0, consumer: LINE, entries: 2 * LINE } as const;

/** A copy of a packet: four words (length, meta, hash, spare), then the bytes. */
export const COPY_HEAD = 16;
