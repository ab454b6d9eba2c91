/**
 * The sizes of the parts of the shared memory, and so their offsets. {@link layOut} is a pure function of the geometry: each
 * thread computes the same offsets. layout.ts has the drawing.
 */

import { PATH_BYTES, QUEUE_BYTES, WORKER_BYTES } from './blocks.ts';
import { hasChains } from './chains.ts';
import { BURST, LINE, type PathId, type RingId, SLOT_PATHS } from './layout.ts';
import { WORKER_RING } from './ring.ts';
import { BURST_BYTES, MAC_STRIDE, MODULE_AREA_BYTES, MODULE_STATIC_BYTES } from './wasm-abi.ts';

export interface Geometry {
  readonly pageSize: number;
  readonly ports: number;
  readonly queues: number;
  /** 2048, 4096 or 16384. */
  readonly frameSize: number;
  /** Frames of one worker, for all its ports; a multiple of 64. */
  readonly framesPerWorker: number;
  /** Entries of each AF_XDP ring and half the io_uring's; a power of two. */
  readonly ringEntries: number;
}

/** A shared `WebAssembly.Memory`, declared here because the project does not use the DOM types. */
export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

/** The shared memory as one thread hands it to another. */
export interface SharedMemory {
  readonly memory: WasmMemory;
  readonly geometry: Geometry;
}

/**
 * Entries of a replay ring: a dead worker may have had the packets of one in-place call in hand, and its io_uring may have
 * received a burst and a single packet.
 */
export const REPLAY_ENTRIES = 512;

/** Workers of other memories that may forward to a worker, and unread copies of each: two bursts. */
export const RELAYS = 16;
export const RELAY_ENTRIES = 128;

/** Entries of a port's redirection table: a power of two, and the most that Windows programs into a device. */
export const RETA_ENTRIES = 128;

/** A port's RSS block, before and with its table: see rss-block.ts. */
const RSS_HEAD = LINE;
const RSS_BYTES = RSS_HEAD + RETA_ENTRIES;

/** Records of the failover journal. */
export const JOURNAL_RECORDS = 1024;

/** The longest packet of the machine's own stack, in whole pages: an IP packet, an Ethernet header and two VLAN tags. */
export const HOST_BUFFER_BYTES = 17 * 4096;
export const HOST_BUFFERS = 16;

/**
 * Reads of a tap that may be under way at once, each with a buffer for the bytes that do not fit its frame: a burst, and a
 * read without the ring. No page of the buffers is used before a packet is longer than a frame.
 */
export const LONG_READS = BURST + 1;
/** The bytes before the buffers: see paths/tap/read-pairs.ts. */
export const LONG_HEAD_BYTES = 4096;

const JOURNAL_RECORD_BYTES = LINE;

/** Two copies of the coordinator's checkpoint: bytes of one, for the port group and for each of its ports. */
const CHECKPOINT_BYTES = 8 * 1024;
const CHECKPOINT_PORT_BYTES = 32 * 1024;

/** Maps of a port's rules, twice: one set is there until another has taken its place. */
const RULE_MAPS = 2 * 60;

/** Descriptors of the coordinator, at most: for the group, for each port, and for each queue of one. */
const DESCRIPTORS = { group: 64, port: 36 + RULE_MAPS, queue: 4 } as const;

/** A handoff ring's entry: four words, the packet's address and length, `handoffMeta`, and the hash. */
const HANDOFF_ENTRY = 16;

/** All handoff rings together may take this many entries; each has a power of two from 64 to 2048. */
const HANDOFF_BUDGET = 2 ** 21;

/** A delivery ring's entry: eight words, see delivery-ring.ts. */
export const DELIVERY_ENTRY = 32;

/** The application has at most so great a part of a worker's frames; each ring has a power of two from 32 to 4096 entries. */
const DELIVERY_PART = 1 / 4;

/** The most bytes before a ring's entries: AF_XDP uses 320, io_uring 192 (both measured on 6.18). */
const RING_HEAD = 512;

export interface Layout {
  readonly geometry: Geometry;
  readonly bytes: number;
  readonly control: number;
  readonly journalHead: number;
  readonly journal: number;
  readonly journalRecordBytes: number;
  /** Word that is incremented with each checkpoint; its lowest bit is the number of the last copy. */
  readonly checkpointHead: number;
  readonly checkpointBytes: number;
  checkpoint(copy: 0 | 1): number;
  readonly descriptors: number;
  readonly descriptorEntries: number;
  readonly frames: number;
  readonly framesBytes: number;
  readonly owners: number;
  /** A word for each jumbo frame: `placeOf` in chains.ts. */
  readonly places: number;
  worker(queue: number): number;
  queue(port: number, queue: number): number;
  slot(port: number, queue: number, path: PathId): number;
  burst(queue: number): number;
  /** {@link MODULE_AREA_BYTES} for a WASM handler. */
  moduleArea(queue: number): number;
  poolStack(queue: number): number;
  ring(port: number, queue: number, path: PathId, ring: RingId): number;
  ringRoom(ring: RingId): number;
  readonly handoffEntries: number;
  readonly returnEntries: number;
  readonly deliveryEntries: number;
  /** Bytes of a copy's slot: {@link COPY_HEAD} and a packet as long as a frame holds. */
  readonly copyBytes: number;
  /** A port's RSS: key, hash types, and its redirection table. See rss-block.ts. */
  rss(port: number): number;
  /** The redirection table in that block. */
  redirection(port: number): number;
  /** Of all ports, {@link MAC_STRIDE} bytes each. */
  readonly macs: number;
  handoff(port: number, from: number, to: number): number;
  returnRing(from: number, to: number): number;
  /** A handoff ring from a worker to itself, of {@link REPLAY_ENTRIES}: see datapath/replay.ts. */
  replay(port: number, queue: number): number;
  delivery(port: number, queue: number): number;
  /** Word that is incremented after deliveries, for the application to wait on. */
  deliveryBell(port: number): number;
  relay(queue: number, relay: number): number;
  hostBuffers(port: number, queue: number): number;
  /** See paths/tap/read-pairs.ts. */
  longPackets(port: number, queue: number): number;
}

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
  const control = reserve(pageSize);
  const journalHead = reserve(LINE);
  const journal = reserve(JOURNAL_RECORDS * JOURNAL_RECORD_BYTES);
  const checkpointHead = reserve(LINE);
  const checkpointBytes = CHECKPOINT_BYTES + ports * CHECKPOINT_PORT_BYTES;
  const checkpoints = reserve(2 * checkpointBytes);
  const descriptorEntries = DESCRIPTORS.group + ports * (DESCRIPTORS.port + queues * DESCRIPTORS.queue);
  const descriptors = reserve(4 * descriptorEntries);
  const workers = reserve(queues * WORKER_BYTES);
  const blocks = reserve(ports * queues * QUEUE_BYTES);
  const slots = reserve(ports * queues * SLOT_PATHS.length * PATH_BYTES);
  const bursts = reserve(queues * lines(BURST_BYTES));
  const stacks = reserve(queues * lines(framesPerWorker * 4));
  const owners = reserve(queues * framesPerWorker * 2);
  const rss = reserve(ports * RSS_BYTES);
  const places = reserve(hasChains(frameSize) ? queues * framesPerWorker * 4 : 0);
  const macs = reserve(ports * MAC_STRIDE);

  const powerOfTwo = (wanted: number, least: number, most: number): number =>
    Math.min(most, Math.max(least, 2 ** Math.floor(Math.log2(wanted))));
  const pairs = queues * queues;
  const handoffEntries = powerOfTwo(HANDOFF_BUDGET / (ports * pairs), 64, 2048);
  const handoffBytes = WORKER_RING.entries + handoffEntries * HANDOFF_ENTRY;
  const returnEntries = 2 ** Math.ceil(Math.log2(framesPerWorker));
  const returnBytes = WORKER_RING.entries + lines(returnEntries * 4);
  const replayBytes = WORKER_RING.entries + REPLAY_ENTRIES * HANDOFF_ENTRY;
  const replays = reserve(ports * queues * replayBytes);
  // One queue has no other worker to hand packets to.
  const handoffs = reserve(queues === 1 ? 0 : ports * pairs * handoffBytes);
  const homes = reserve(queues === 1 ? 0 : pairs * returnBytes);
  const deliveryEntries = powerOfTwo((framesPerWorker / ports) * DELIVERY_PART, 32, 4096);
  const deliveryBytes = WORKER_RING.entries + deliveryEntries * DELIVERY_ENTRY;
  const bells = reserve(ports * LINE);
  const deliveries = reserve(ports * queues * deliveryBytes);
  const relayBytes = WORKER_RING.entries + RELAY_ENTRIES * frameSize;
  const relays = reserve(queues * RELAYS * relayBytes);
  const areas = reserve(queues * MODULE_AREA_BYTES);

  // Descriptors are 8 bytes in FILL and COMPLETION, 16 in RX and TX. The tap's CQ (16 bytes an entry) and SQEs (64)
  // have as many entries and a quarter as many: the same room.
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
    control,
    journalHead,
    journal,
    journalRecordBytes: JOURNAL_RECORD_BYTES,
    checkpointHead,
    checkpointBytes,
    checkpoint: (copy) => checkpoints + copy * checkpointBytes,
    descriptors,
    descriptorEntries,
    frames,
    framesBytes,
    owners,
    places,
    worker: (queue) => workers + queue * WORKER_BYTES,
    queue: (port, queue) => blocks + (port * queues + queue) * QUEUE_BYTES,
    slot: (port, queue, path) => slots + slotNumber(port, queue, path) * PATH_BYTES,
    burst: (queue) => bursts + queue * lines(BURST_BYTES),
    moduleArea: (queue) => areas + queue * MODULE_AREA_BYTES,
    poolStack: (queue) => stacks + queue * lines(framesPerWorker * 4),
    ring: (port, queue, path, ring) => rings + slotNumber(port, queue, path) * slotRings + ringOffsets[ring]!,
    ringRoom: (ring) => rooms[ring]!,
    handoffEntries,
    returnEntries,
    deliveryEntries,
    copyBytes: frameSize,
    macs,
    rss: (port) => rss + port * RSS_BYTES,
    redirection: (port) => rss + port * RSS_BYTES + RSS_HEAD,
    handoff: (port, from, to) => handoffs + ((port * queues + from) * queues + to) * handoffBytes,
    returnRing: (from, to) => homes + (from * queues + to) * returnBytes,
    replay: (port, queue) => replays + (port * queues + queue) * replayBytes,
    delivery: (port, queue) => deliveries + (port * queues + queue) * deliveryBytes,
    deliveryBell: (port) => bells + port * LINE,
    relay: (queue, relay) => relays + (queue * RELAYS + relay) * relayBytes,
    hostBuffers: (port, queue) => hosts + (port * queues + queue) * HOST_BUFFERS * HOST_BUFFER_BYTES,
    longPackets: (port, queue) => longs + (port * queues + queue) * longBytes,
  };
}
