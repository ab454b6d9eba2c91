/**
 * The words of the four kinds of blocks: the control page, and a block for each worker, queue and path slot.
 *
 * Tables first: bytes from a block's start to each field. Then one class for each kind, which has a field as a property,
 * for set-up; the hot path asks once for a word's index, with `at`, and uses the typed arrays. A block object caches
 * nothing, so several threads may each make one of the same block.
 */
import { Driver, type DriverId, LINE, type ReaderId } from './layout.ts';

export const CONTROL_WORDS = {
  magic: 0,
  bytes: 4, // of the whole memory: attaching with another layout fails
  forwarders: 64, // memories that have asked for a relay here; the count is the next one's number. (a) increments
  stop: LINE, // 0 run, 1 stop. (a)
  // (s): descriptors of kernel/link-watch.ts; 0 none
  linksFd: 2 * LINE,
  flagsFd: 2 * LINE + 4,
  metadata: 3 * LINE, // (w) sets bits: what the handler asks for, memory/metadata.ts
  captures: 4 * LINE, // (t) generation of the capture orders: memory/capture-orders.ts
  checks: 5 * LINE, // (c) counts its periodic checks: it stands still while the coordinator hangs
  loading: 6 * LINE, // threads that load modules, each of which decrements it: coordinator/loading.ts
} as const;

export const WORKER_WORDS = {
  // (w)
  poolCount: 0, // free frames on the stack
  auditDone: 4, // an audit's answer: equals `auditWanted` once the ledger belongs to it
  heartbeat: 64, // counts the handler's calls: it stands still in a call that does not return
  handling: 68, // the packets that the handler has: `handlingWord` in datapath/handler-call.ts; 0 while it is not running
  lowOnFrames: 72, // 1 while free frames are few: a worker that returns some wakes this one
  thread: 76, // its thread's number in the kernel, for those who read its CPU time
  turns: 80, // counts its housekeeping, also while it is idle: it stands still while the worker hangs
  // (c)
  auditWanted: LINE, // an increment asks for an audit
  doorbell: 2 * LINE, // (s), (c) and (p) increment: a worker without a descriptor sleeps on it
  doorbellFd: 2 * LINE + 4, // eventfd that wakes the worker
  supervisorFd: 2 * LINE + 8, // eventfd that wakes the supervisor
  stuck: 2 * LINE + 12, // 1: the last worker was ended because its handler did not return: its packets are dropped
  idleMode: 2 * LINE + 20, // (s) what the worker does when idle: `IdleCode` in datapath/idle.ts
  lease: 2 * LINE + 16, // which thread may serve the queue: datapath/lease.ts. (s), and the worker that takes it
  // any thread
  sleeping: 3 * LINE, // 1 while the worker sleeps: (w) sets it, the thread that wakes it clears it
  inbox: 4 * LINE, // other workers increment it after publishing something for this one
} as const;
export const WORKER_AREAS = {
  ledger: 8, // (w) Int32 × LEDGER_FIELDS
  relays: 4 * LINE + 64, // Int32 × RELAYS: the writer of each, 0 none. Claimed by compare-exchange
} as const;
export const WORKER_BYTES = 5 * LINE;

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
  'borrowed', // from other workers, in the places above: counts against the sum
  'duplicates',
] as const;

export const QUEUE_WORDS = {
  // (s)
  owner: 0, // `ownerWord` in bit-fields.ts
  // (w)
  ack: LINE, // the last owner word that the worker has put into effect
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
  driver: 0, // a Driver; 0 closed
  incarnation: 4, // memory path: odd while peers may attach; incremented with every change
  fd: 8, // to kick and to sleep on: AF_XDP socket or tap queue. PROXY: the queue whose worker sends
  reader: 12, // a Reader. (s) sets STOPPED
  useUring: 16, // tap: 1 io_uring, 0 plain reads and writes; the worker answers in `uringFd`
  inline: 20, // host path: 1 if packets that the machine's own stack sends come up
  segmentsFd: 24, // packet socket for large segments, paths/segments.ts; 0 none, or the errno of its refusal
  maxPacketBytes: 28, // the longest packet that the path sends: follows the MTU, paths/packet-size.ts
  readsLong: 32, // tap: 1 if reads take packets longer than a frame whole. (w) sets it with the first such packet
  metadata: 36, // 1: packets come with metadata before them, memory/metadata.ts
  chains: 40, // AF_XDP: 1 if a packet may be in several descriptors, chains.ts
  // (w)
  uringFd: 3 * LINE, // io_uring of this tap queue; 0 none
  uringErrno: 3 * LINE + 4, // errno with which io_uring was refused; 0 none
  consumed: 3 * LINE + 112, // transmit slots before this cursor are consumed, even if the kernel has not said so yet
  staged: 3 * LINE + 116, // cursor behind the last transmit slot that is staged, published or not
  giving: 3 * LINE + 120, // rings: cursor behind the last slot written, while frames from `staged` on get their owner
  // (p)
  peerBusy: 7 * LINE, // memory path: 1 while the peer touches the rings, paths/memory
  // (w)
  readAddress: 8 * LINE + 64, // tap: the result of single reads and writes, paths/tap/direct.ts
  readResult: 8 * LINE + 68,
  writeResult: 8 * LINE + 72,
  held: 8 * LINE + 76, // host path: packets read into its buffers and not received
  recalled: 8 * LINE + 80, // AF_XDP before Linux 6.17, paths/af-xdp/recall.ts: descriptors ever taken back;
  recallEnd: 8 * LINE + 84, // those not in the ring again
  recallCount: 8 * LINE + 88,
  recallCompletes: 8 * LINE + 92,
  recallBounced: 8 * LINE + 96,
  bounces: 8 * LINE + 100, // AF_XDP: bounced packets whose frames are not completed yet
  doubt: 8 * LINE + 104, // a Doubt: (w) asks, (s) or (c) answers
} as const;
export const PATH_AREAS = {
  xsk: LINE, // (c) `struct tp_xsk`
  uring: 3 * LINE + 16, // (w) `struct tp_uring`
  counters: 4 * LINE, // (w) Float64 × PATH_COUNTERS in counters.ts
  kernel: 6 * LINE, // (c) Float64 × KERNEL_COUNTERS: the kernel's own drop counts
  inPlace: 8 * LINE, // (w) rings: `InPlaceWord` in wasm-abi.ts
} as const;
export const PATH_BYTES = 9 * LINE;

/** Bytes from a block's start, by field. */
type Fields = Readonly<Record<string, number>>;

/** The arrays of a `Memory`. */
interface Arrays {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

interface Base<Field> {
  readonly words: Int32Array;
  /** Index of a field's first Int32 word. */
  at(field: Field): number;
  /** Byte offset of a field in the shared memory. */
  offset(field: Field): number;
}

type Block<Words extends Fields, Times extends Fields, Areas extends Fields> = Base<
  keyof Words | keyof Times | keyof Areas
> & { -readonly [Field in keyof Words | keyof Times]: number };

/** @param start byte offset of the block, from the layout */
type BlockClass<W extends Fields, T extends Fields, A extends Fields> = new (
  arrays: Arrays,
  start: number,
) => Block<W, T, A>;

function blockOf<W extends Fields, T extends Fields, A extends Fields>(
  words: W,
  times: T,
  areas: A,
): BlockClass<W, T, A> {
  const places: Fields = { ...words, ...times, ...areas };
  class Plain implements Base<string> {
    readonly words: Int32Array;
    readonly doubles: Float64Array;
    readonly start: number;
    constructor(arrays: Arrays, start: number) {
      this.words = arrays.words;
      this.doubles = arrays.doubles;
      this.start = start;
    }
    at(field: string): number {
      return (this.start + places[field]!) >> 2;
    }
    offset(field: string): number {
      return this.start + places[field]!;
    }
  }
  const property = (field: string, array: 'words' | 'doubles', shift: number): void => {
    Object.defineProperty(Plain.prototype, field, {
      get(this: Plain) {
        return this[array][(this.start + places[field]!) >> shift];
      },
      set(this: Plain, value: number) {
        this[array][(this.start + places[field]!) >> shift] = value;
      },
    });
  };
  for (const field in words) property(field, 'words', 2);
  for (const field in times) property(field, 'doubles', 3);
  return Plain as unknown as BlockClass<W, T, A>;
}

export class ControlPage extends blockOf(CONTROL_WORDS, {}, {}) {
  /** Whether the ports of this memory are closing. */
  get stopping(): boolean {
    return Atomics.load(this.words, this.at('stop')) !== 0;
  }

  stopAll(): void {
    Atomics.store(this.words, this.at('stop'), 1);
  }
}

export class WorkerBlock extends blockOf(WORKER_WORDS, {}, WORKER_AREAS) {}

export class QueueBlock extends blockOf(QUEUE_WORDS, QUEUE_TIMES, QUEUE_AREAS) {
  /** Index of the word that has the errno of a path's failed kick. */
  kickErrnoAt(path: number): number {
    return this.at('kickErrno') + path;
  }
}

/** The words of a path slot that is opened. An absent one is 0; an absent descriptor is -1. */
export interface Opening {
  readonly fd?: number;
  readonly reader: ReaderId;
  readonly inline?: number;
  readonly useUring?: number;
  readonly readsLong?: number;
  readonly segmentsFd?: number;
  readonly metadata?: number;
}

export class PathSlot extends blockOf(PATH_WORDS, {}, PATH_AREAS) {
  /**
   * Coordinator: opens a closed slot for the workers, with nothing staged and nothing taken back. The driver's areas are
   * written before. `maxPacketBytes` is written apart, because it follows the device.
   */
  open(driver: Exclude<DriverId, typeof Driver.CLOSED>, opening: Opening): void {
    this.staged = this.giving = this.consumed = this.bounces = 0;
    this.recalled = this.recallCount = this.recallCompletes = this.recallBounced = 0;
    this.uringFd = 0;
    this.fd = opening.fd ?? -1;
    this.reader = opening.reader;
    this.inline = opening.inline ?? 0;
    this.useUring = opening.useUring ?? 0;
    this.readsLong = opening.readsLong ?? 0;
    this.segmentsFd = opening.segmentsFd ?? 0;
    this.metadata = opening.metadata ?? 0;
    this.chains = 0;
    Atomics.store(this.words, this.at('driver'), driver);
  }

  /** Coordinator: after the worker has left it. */
  close(): void {
    this.segmentsFd = 0;
    this.uringFd = 0;
    Atomics.store(this.words, this.at('driver'), Driver.CLOSED);
  }
}
