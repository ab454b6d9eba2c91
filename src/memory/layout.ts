/**
 * The shared memory, drawn. The only module that knows byte offsets.
 *
 * One `WebAssembly.Memory` (page-aligned, fixed size, shared) holds everything two threads, or a
 * thread and the kernel, look at. {@link layOut} is a pure function of the geometry, so each thread
 * computes the same offsets for itself.
 *
 * ```
 *   module statics  data of a handler in WebAssembly, one for all workers     (w)
 *   control page    magic, size, stop word                                    (a)
 *   journal         what happened to which queue, when                        (c)
 *   checkpoints     what the coordinator holds, for whoever goes on from it    (c)
 *   descriptors     its open descriptors, 0 where there is none                (c)
 *   worker blocks   one per queue number: pool, sleep, audit                  (w)
 *   queue blocks    one per (port, queue): ownership (c), answer (w), counters (w)
 *   path slots      one per (port, queue, path): descriptors (c), counters (w)
 *   bursts          one per worker: the packets in hand, struct of arrays     (w)
 *   pool stacks     one per worker: free frames; one holder per frame         (w)
 *   redirection     one table a port: hash to queue                           (s)
 *   replay lanes    packets that a dead worker had, for its successor         (w)
 *   MAC addresses   one a port                                                (c)
 *   lanes           packets from worker to worker, per port and pair          (w)(w')
 *   home lanes      frames on their way back to their worker, per pair        (w)(w')
 *   deliveries      copies of packets for the application, per port and queue (w)(a)
 *   relays          copies of packets from ports of other memories, per queue (other)(w)
 *   module areas    one per worker: context, state and stack of a WASM handler (w)
 *   rings           four per path slot, page aligned; mapped by the kernel    (w)(k)
 *   frames          the packets                                               (w)(k)
 *   host buffers    what the machine's own stack sends, up to 64 KiB each     (w)(k)
 *   long packets    what a tap brings that is longer than a frame             (w)(k)
 * ```
 *
 * Owner tags: (a) application thread, (s) supervisor, (c) coordinator, (w) the one worker of that queue, (w') another
 * worker, (k) kernel. A word has one writer, but for words that count up, which are added to. Words of
 * different writers never share a cache line ({@link LINE} bytes: two lines, because x86 fetches pairs).
 */

export const MAGIC = 0x54575031; // TWP1
export const LINE = 128;

/** Packets handled together: two cache-resident kilobytes of headers, and one system call each 64. */
export const BURST = 64;

/** Packets of a turn, at most, see paths/turn.ts: what a call of it costs is little then, and a sender does not wait. */
export const TURN = 4 * BURST;

/** Bytes the kernel keeps free before each packet (XDP_PACKET_HEADROOM, include/uapi/linux/bpf.h). */
export const HEADROOM = 256;

/** Of these, bytes at a frame's start that paths need for a header of their own (struct virtio_net_hdr). */
export const RESERVED = 16;

/** What a queue transmits on. HOST is the machine's own stack. */
export const Path = { NONE: 0, SYNTHETIC: 1, VF: 2, HOST: 3 } as const;
export type PathId = (typeof Path)[keyof typeof Path];
export const PATH_NAMES = ['none', 'synthetic', 'vf', 'host'] as const;
export type PathName = (typeof PATH_NAMES)[number];

/** The paths a queue has slots for. */
export const SLOT_PATHS = [Path.SYNTHETIC, Path.VF, Path.HOST] as const;

/** Entries of a port's redirection table: a power of two, and the most that Windows gives a device. */
export const RETA_ENTRIES = 128;

export interface Geometry {
  readonly pageSize: number;
  readonly ports: number;
  readonly queues: number;
  /** 2048 or 4096. */
  readonly frameSize: number;
  /** Frames of one worker, for all its ports; a multiple of 64. */
  readonly framesPerWorker: number;
  /** Entries of each AF_XDP ring and half the io_uring's; a power of two. */
  readonly ringEntries: number;
}

/** A shared `WebAssembly.Memory`; spelled out because the DOM types that declare it are not ours. */
export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

/** The shared memory as one thread hands it to another. */
export interface SharedMemory {
  readonly memory: WasmMemory;
  readonly geometry: Geometry;
}

/**
 * The first page of WebAssembly: compilers place a module's static data at low addresses, known when it is
 * linked. The workers' instances of a handler share it, as threads do. Part of the WASM ABI.
 */
export const MODULE_STATIC_BYTES = 65_536;

/** What each worker's instance has for itself: context, thread-local data, state, stack. Part of the WASM ABI. */
export const MODULE_AREA_BYTES = 262_144;

/** Byte offsets of the control page's words in the memory. */
export const Control = {
  magic: MODULE_STATIC_BYTES,
  /** Bytes of the whole memory; a reader with another layout notices. */
  bytes: MODULE_STATIC_BYTES + 4,
  /** How many memories have asked for a relay here: each gets a number. Counted up by application threads. */
  forwarders: MODULE_STATIC_BYTES + 64,
  /** 0 run, 1 stop. (c) */
  stop: MODULE_STATIC_BYTES + LINE,
} as const;

/** Byte offsets inside a worker block. */
export const WorkerBlock = {
  /** Free frames on the stack. (w) */
  poolCount: 0,
  /** Counts up with the handler's calls: while one goes on and this stands still, it does not return. (w) */
  beat: 64,
  /** Which packets the handler has been given: `handlingWord` in words.ts; 0 while it is not running. (w) */
  handling: 68,
  /** 1 while free frames are few: whoever returns some wakes the worker. (w) */
  hungry: 72,
  /** An audit's answer: equals `auditWanted` once the words below belong to it. (w) */
  auditDone: 4,
  /** Int32 × {@link LEDGER_FIELDS}. (w) */
  ledger: 8,
  /** Asks for an audit by counting up. (c) */
  auditWanted: LINE,
  /** Doorbell for workers without a descriptor to sleep on: counted up by (c) and memory peers. */
  doorbell: 2 * LINE,
  /** eventfd that wakes the worker. (c) */
  doorbellFd: 2 * LINE + 4,
  /** eventfd that wakes the coordinator. (c) */
  attentionFd: 2 * LINE + 8,
  /** 1: the last worker was ended because its handler did not return; what it had in hand is dropped. (c) */
  stuck: 2 * LINE + 12,
  /** Which thread may serve the queue: see datapath/lease.ts. (s), and the worker that takes it. */
  lease: 2 * LINE + 16,
  /** 1 while the worker sleeps. (w) sets it; who wakes the worker takes it back to 0. */
  sleeping: 3 * LINE,
  /** Counted up by other workers when they have published something for this one. */
  inbox: 4 * LINE,
  /** One word a relay: who writes to it, 0 nobody. Claimed by compare-exchange. */
  relays: 4 * LINE + 64,
  bytes: 5 * LINE,
} as const;

/** The frame ledger, in the order it is stored. `accounted` must equal `total`. */
export const LEDGER_FIELDS = [
  'total',
  'accounted',
  'free',
  'fill',
  'rx',
  'tx',
  'completing',
  'inHand',
  'lent', // to other workers, or on the way from or to them
  'borrowed', // of other workers, in the places above: counts against the sum
  'duplicates',
] as const;

/** Byte offsets inside a queue block. */
export const QueueBlock = {
  /** See `ownerWord` in words.ts. (c) */
  owner: 0,
  /** The last owner word the worker has put into effect. (w) */
  ack: LINE,
  /** A path's kick failed with this errno (positive), per path id; 0 none. (w) Int32 × 4 */
  kickErrno: LINE + 16,
  /** The last switch: frames drained from the old receive ring, frames rescued. (w) */
  drained: LINE + 32,
  rescued: LINE + 36,
  /** When it began and ended, CLOCK_MONOTONIC ns as Float64. (w) */
  switchBegan: LINE + 40,
  switchEnded: LINE + 48,
  /** Packets at the head of the replay lane of which one may be deadly: see datapath/replay.ts. (w) */
  suspects: LINE + 56,
  /** Float64 × QUEUE_COUNTERS in counters.ts. (w) */
  counters: 2 * LINE,
  bytes: 5 * LINE,
} as const;

/** Whether a device that drops what it is given has a link: the kernel's own messages may be a second late. */
export const Doubt = { NONE: 0, ASKED: 1, LINKED: 2 } as const;

/**
 * Who reads a transmit ring, and so whether what is unread may be taken back. NONE: nothing is ever unread. ASKED: somebody
 * who reads only when asked to. DRIVER: a driver that sends by itself, whenever it likes. STOPPED: the same, and the kernel
 * has stopped its device.
 */
export const Reader = { NONE: 0, ASKED: 1, DRIVER: 2, STOPPED: 3 } as const;

/** Byte offsets inside a path slot. */
export const PathSlot = {
  /** Which driver serves it: see {@link Driver}. 0 closed. (c) */
  driver: 0,
  /** Memory path: odd while peers may attach, counts up with every change. (c) */
  incarnation: 4,
  /** The descriptor to kick and to sleep on: AF_XDP socket or tap queue. (c) */
  fd: 8,
  /** Who reads the transmit ring: see {@link Reader}. (c) */
  reader: 12,
  /** Tap only: 1 io_uring, 0 plain reads and writes. (c) asks, (w) answers in `uringFd`. */
  useUring: 16,
  /** Host path only: 1 if what the machine's own stack sends comes up. (c) */
  inline: 20,
  /** The packet socket for large segments, see paths/segments.ts; 0 none, or the errno it was refused with. (c) */
  segmentsFd: 24,
  /** Bytes of the longest packet that the path sends: follows the device's MTU. See paths/frame-room.ts. (c) */
  longest: 28,
  /** Tap only: 1 if reads take packets longer than a frame whole. (c) where they are to be expected, (w) once one has come. */
  readsLong: 32,
  /** `struct tp_xsk`. (c) */
  xsk: LINE,
  /** Transmit slots before this cursor are consumed, even if the kernel has not said so yet. (w) */
  consumed: 3 * LINE + 112,
  /** Cursor behind the last transmit slot that is staged, published or not. (w) */
  staged: 3 * LINE + 116,
  /** Rings only: cursor behind the last slot written, as long as the frames from `staged` on are being given. (w) */
  giving: 3 * LINE + 120,
  /** io_uring of this tap queue; 0 none. (w) */
  uringFd: 3 * LINE,
  /** errno with which io_uring was refused; 0 none. (w) */
  uringErrno: 3 * LINE + 4,
  /** `struct tp_uring`. (w) */
  uring: 3 * LINE + 16,
  /** Float64 × PATH_COUNTERS. (w) */
  counters: 4 * LINE,
  /** Float64 × KERNEL_COUNTERS: what the kernel says it dropped. (c) */
  kernel: 6 * LINE,
  /** Memory only: 1 while the peer touches the rings, see paths/memory. Its own line: the peer's thread writes. */
  peerBusy: 7 * LINE,
  /** Rings only: see {@link TurnWord}. (w) */
  turn: 8 * LINE,
  /** Tap only: what single reads and writes did, see paths/tap/direct.ts. (w) */
  readAddress: 8 * LINE + 64,
  readResult: 8 * LINE + 68,
  writeResult: 8 * LINE + 72,
  /** Host path only: packets read into its buffers and not received. (w) */
  held: 8 * LINE + 76,
  /** AF_XDP before Linux 6.17 only, see paths/recall.ts: descriptors ever taken back; those not in the ring again. (w) */
  recalled: 8 * LINE + 80,
  recallEnd: 8 * LINE + 84,
  recallCount: 8 * LINE + 88,
  recallCompletes: 8 * LINE + 92,
  recallBounced: 8 * LINE + 96,
  /** AF_XDP only: bounced packets whose frames have not come home. (w) */
  bounces: 8 * LINE + 100,
  /** A {@link Doubt}: asked by the worker, answered by the coordinator. (w, c) */
  doubt: 8 * LINE + 104,
  bytes: 9 * LINE,
} as const;

/**
 * What a handler's `turn` is told of the rings, and what it answers: byte offsets of Int32. Part of the WASM ABI.
 */
export const TurnWord = {
  /** Slots of the receive ring and of the transmit ring, as addresses, and what their cursors are masked with. */
  received: 0,
  receivedMask: 4,
  sent: 8,
  sentMask: 12,
  /** Where address 0 of a descriptor is. */
  frames: 16,
  /** Bytes of a packet that may be sent, at most. */
  longest: 20,
  /** The burst for what is not sent. */
  burst: 24,
  /** Answers: packets dealt with, their bytes, how many of them are in the transmit ring, how many in the burst. */
  done: 28,
  bytes: 32,
  staged: 36,
  left: 40,
} as const;

/** A MAC address and two bytes of nothing. Part of the WASM ABI. */
export const MAC_STRIDE = 8;

/** Which driver a path slot belongs to. */
export const Driver = { CLOSED: 0, AF_XDP: 1, TAP: 2, MEMORY: 3, HOST: 4, PROXY: 5, LOOP: 6 } as const;

/** Records of the failover journal. */
export const JOURNAL_RECORDS = 1024;
const JOURNAL_RECORD_BYTES = LINE;

/** Two copies of the coordinator's checkpoint: bytes of one, for the port group and for each of its ports. */
const CHECKPOINT_BYTES = 8 * 1024;
const CHECKPOINT_PORT_BYTES = 32 * 1024;

/** Descriptors of the coordinator, at most: for the group, for each port, and for each queue of one. */
const DESCRIPTORS = { group: 64, port: 32, queue: 4 } as const;

/** Rings of a path slot. The tap keeps its CQ and SQEs in RX and TX. */
export const Ring = { FILL: 0, RX: 1, TX: 2, COMPLETION: 3 } as const;
export type RingId = (typeof Ring)[keyof typeof Ring];

/** Where the ring's words lie when we, not the kernel, lay it out (memory path): as Linux 6.18 does. */
export const OWN_RING = { producer: 0, consumer: LINE, flags: 2 * LINE, desc: 3 * LINE } as const;

/**
 * Bytes before a ring's entries, at most: AF_XDP uses 320, io_uring 192 (both measured on 6.18).
 */
const RING_HEAD = 512;

export interface Layout {
  readonly geometry: Geometry;
  readonly bytes: number;
  readonly journalHead: number;
  readonly journal: number;
  readonly journalRecordBytes: number;
  /** Word that counts up with each checkpoint; its lowest bit says which copy is the last. */
  readonly checkpointHead: number;
  readonly checkpointBytes: number;
  checkpoint(copy: 0 | 1): number;
  readonly descriptors: number;
  readonly descriptorEntries: number;
  readonly frames: number;
  readonly framesBytes: number;
  readonly holders: number;
  worker(queue: number): number;
  queue(port: number, queue: number): number;
  slot(port: number, queue: number, path: PathId): number;
  burst(queue: number): number;
  /** {@link MODULE_AREA_BYTES} for a WASM handler. */
  moduleArea(queue: number): number;
  poolStack(queue: number): number;
  ring(port: number, queue: number, path: PathId, ring: RingId): number;
  ringRoom(ring: RingId): number;
  readonly laneEntries: number;
  readonly homeEntries: number;
  readonly deliveryEntries: number;
  /** Bytes of a copy's slot: what a frame holds, and {@link COPY_HEAD}. */
  readonly copyBytes: number;
  redirection(port: number): number;
  /** Of all ports, {@link MAC_STRIDE} bytes each. */
  readonly macs: number;
  lane(port: number, from: number, to: number): number;
  homeLane(from: number, to: number): number;
  /** A lane from a worker to itself, of {@link REPLAY_ENTRIES}: see datapath/replay.ts. */
  replay(port: number, queue: number): number;
  delivery(port: number, queue: number): number;
  /** Word that counts up when something was delivered, for the application to wait on. */
  deliveryBell(port: number): number;
  relay(queue: number, relay: number): number;
  hostBuffers(port: number, queue: number): number;
  /** See paths/tap/read-pairs.ts. */
  longPackets(port: number, queue: number): number;
}

/** A lane between two workers: the two cursors on lines of their own, then the entries. */
export const LANE = { producer: 0, consumer: LINE, entries: 2 * LINE } as const;

/** A lane's entry: four words, address of the frame's packet, length, `laneMeta`, hash. */
const LANE_ENTRY = 16;
/**
 * Entries of a replay lane: what a dead worker may have had in hand of one port, a turn of packets, and what its io_uring
 * may have received, a burst and a single packet.
 */
export const REPLAY_ENTRIES = 512;
/** All lanes together may take this many entries; each has a power of two from 64 to 2048. */
const LANE_BUDGET = 2 ** 21;

/** A copy of a packet: four words (length, meta, hash, spare), then the bytes. */
export const COPY_HEAD = 16;
/** All deliveries together, in copies; each ring has a power of two from 32 to 512. */
const DELIVERY_BUDGET = 2 ** 13;
/** Workers of other memories that may forward to a worker, and the copies that each may be ahead: two bursts. */
export const RELAYS = 16;
export const RELAY_ENTRIES = 128;

/** The longest packet of the machine's own stack: an IP packet, Ethernet header, two VLAN tags; in whole pages. */
export const HOST_BUFFER_BYTES = 17 * 4096;
export const HOST_BUFFERS = 16;

/**
 * Reads of a tap that may be under way at once, each with a buffer for what does not fit its frame: a burst, and a read
 * without the ring. No page of it is touched before a packet is longer than a frame.
 */
export const LONG_READS = BURST + 1;
/** What comes before the buffers: see paths/tap/read-pairs.ts. */
export const LONG_HEAD_BYTES = 4096;

/** Where the arrays of a burst lie, from its start: four of Int32 and four of bytes, {@link BURST} entries each. */
export const BurstArray = {
  offset: 0,
  bytes: 4 * BURST,
  hash: 8 * BURST,
  offload: 12 * BURST,
  port: 16 * BURST,
  path: 17 * BURST,
  verdict: 18 * BURST,
  target: 19 * BURST,
} as const;
export const BURST_BYTES = 20 * BURST;

export function layOut(geometry: Geometry): Layout {
  const { pageSize, ports, queues, frameSize, framesPerWorker, ringEntries } = geometry;
  const pages = (bytes: number): number => Math.ceil(bytes / pageSize) * pageSize;
  const lines = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;
  let end = 0;
  const reserve = (bytes: number): number => {
    const at = end;
    end += lines(bytes);
    return at;
  };

  reserve(MODULE_STATIC_BYTES);
  reserve(pageSize); // control
  const journalHead = reserve(LINE);
  const journal = reserve(JOURNAL_RECORDS * JOURNAL_RECORD_BYTES);
  const checkpointHead = reserve(LINE);
  const checkpointBytes = CHECKPOINT_BYTES + ports * CHECKPOINT_PORT_BYTES;
  const checkpoints = reserve(2 * checkpointBytes);
  const descriptorEntries = DESCRIPTORS.group + ports * (DESCRIPTORS.port + queues * DESCRIPTORS.queue);
  const descriptors = reserve(4 * descriptorEntries);
  const workers = reserve(queues * WorkerBlock.bytes);
  const blocks = reserve(ports * queues * QueueBlock.bytes);
  const slots = reserve(ports * queues * SLOT_PATHS.length * PathSlot.bytes);
  const bursts = reserve(queues * lines(BURST_BYTES));
  const stacks = reserve(queues * lines(framesPerWorker * 4));
  const holders = reserve(queues * framesPerWorker * 2);
  const tables = reserve(ports * RETA_ENTRIES);
  const macs = reserve(ports * MAC_STRIDE);

  const powerOfTwo = (wanted: number, least: number, most: number): number =>
    Math.min(most, Math.max(least, 2 ** Math.floor(Math.log2(wanted))));
  const pairs = queues * queues;
  const laneEntries = powerOfTwo(LANE_BUDGET / (ports * pairs), 64, 2048);
  const laneBytes = LANE.entries + laneEntries * LANE_ENTRY;
  const homeEntries = 2 ** Math.ceil(Math.log2(framesPerWorker));
  const homeBytes = LANE.entries + lines(homeEntries * 4);
  const replayBytes = LANE.entries + REPLAY_ENTRIES * LANE_ENTRY;
  const replays = reserve(ports * queues * replayBytes);
  // One queue has nobody to hand anything to.
  const lanes = reserve(queues === 1 ? 0 : ports * pairs * laneBytes);
  const homes = reserve(queues === 1 ? 0 : pairs * homeBytes);
  const deliveryEntries = powerOfTwo(DELIVERY_BUDGET / (ports * queues), 32, 512);
  const deliveryBytes = LANE.entries + deliveryEntries * frameSize;
  const bells = reserve(ports * LINE);
  const deliveries = reserve(ports * queues * deliveryBytes);
  const relayBytes = LANE.entries + RELAY_ENTRIES * frameSize;
  const relays = reserve(queues * RELAYS * relayBytes);
  const areas = reserve(queues * MODULE_AREA_BYTES);

  // Descriptors are 8 bytes in FILL and COMPLETION, 16 in RX and TX. The tap's CQ (16 bytes an entry) and SQEs (64)
  // take all and a quarter as many entries: the same room.
  const rooms = [8, 16, 16, 8].map((stride) => pages(RING_HEAD + ringEntries * stride));
  const ringOffsets = rooms.map((_, ring) => rooms.slice(0, ring).reduce((a, b) => a + b, 0));
  const slotRings = rooms.reduce((a, b) => a + b, 0);
  end = pages(end);
  const rings = reserve(ports * queues * SLOT_PATHS.length * slotRings);
  end = pages(end);
  const frames = end;
  const framesBytes = queues * framesPerWorker * frameSize;
  end += framesBytes;
  const hosts = reserve(ports * queues * HOST_BUFFERS * HOST_BUFFER_BYTES);
  const longBytes = LONG_HEAD_BYTES + LONG_READS * HOST_BUFFER_BYTES;
  const longs = reserve(ports * queues * longBytes);

  const slotNumber = (port: number, queue: number, path: PathId): number =>
    (port * queues + queue) * SLOT_PATHS.length + (path - 1);

  return {
    geometry,
    bytes: end,
    journalHead,
    journal,
    journalRecordBytes: JOURNAL_RECORD_BYTES,
    ...{ checkpointHead, checkpointBytes, checkpoint: (copy) => checkpoints + copy * checkpointBytes },
    ...{ descriptors, descriptorEntries },
    frames,
    framesBytes,
    holders,
    worker: (queue) => workers + queue * WorkerBlock.bytes,
    queue: (port, queue) => blocks + (port * queues + queue) * QueueBlock.bytes,
    slot: (port, queue, path) => slots + slotNumber(port, queue, path) * PathSlot.bytes,
    burst: (queue) => bursts + queue * lines(BURST_BYTES),
    moduleArea: (queue) => areas + queue * MODULE_AREA_BYTES,
    poolStack: (queue) => stacks + queue * lines(framesPerWorker * 4),
    ring: (port, queue, path, ring) => rings + slotNumber(port, queue, path) * slotRings + ringOffsets[ring]!,
    ringRoom: (ring) => rooms[ring]!,
    ...{ laneEntries, homeEntries, deliveryEntries, copyBytes: frameSize },
    macs,
    redirection: (port) => tables + port * RETA_ENTRIES,
    lane: (port, from, to) => lanes + ((port * queues + from) * queues + to) * laneBytes,
    homeLane: (from, to) => homes + (from * queues + to) * homeBytes,
    replay: (port, queue) => replays + (port * queues + queue) * replayBytes,
    delivery: (port, queue) => deliveries + (port * queues + queue) * deliveryBytes,
    deliveryBell: (port) => bells + port * LINE,
    relay: (queue, relay) => relays + (queue * RELAYS + relay) * relayBytes,
    hostBuffers: (port, queue) => hosts + (port * queues + queue) * HOST_BUFFERS * HOST_BUFFER_BYTES,
    longPackets: (port, queue) => longs + (port * queues + queue) * longBytes,
  };
}
