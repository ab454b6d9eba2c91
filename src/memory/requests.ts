/**
 * The request blocks of a path slot, `struct tp_xsk` and `struct tp_uring`: the request to the shim, and the places of the
 * rings' words, from the kernel. A memory path describes its rings by the same block.
 */
import { Uring, Xsk } from './abi.ts';
import { CHUNK } from './chains.ts';
import { LINE, type QueueAddress, Ring, type RingId } from './layout.ts';
import type { RingPlace } from './ring.ts';
import type { Memory } from './shared.ts';

/** Bytes to the words of a ring that we lay out, and not the kernel (memory path): as Linux 6.18 does. */
export const OWN_RING = { producer: 0, consumer: LINE, flags: 2 * LINE, desc: 3 * LINE } as const;

/** Bytes of a `struct tp_ring`. */
const RING_BYTES = 24;

function ringOffset({ layout }: Memory, { port, queue, path }: QueueAddress, ring: RingId): number {
  return layout.ring(port, queue, path, ring);
}

const u64 = ({ view }: Memory, at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);

/** The words of one of the four rings, as written when the path slot was opened. */
export function ringPlace(memory: Memory, address: QueueAddress, ring: RingId): RingPlace {
  const { words } = memory;
  const xsk = memory.slot(address).offset('xsk');
  const at = ringOffset(memory, address, ring);
  const from = (xsk + Xsk.ring + ring * RING_BYTES) >> 2;
  return {
    producer: (at + words[from]!) >> 2,
    consumer: (at + words[from + 1]!) >> 2,
    flags: (at + words[from + 2]!) >> 2,
    slots: (at + words[from + 3]!) >> 2,
    slotWords: ring === Ring.RX || ring === Ring.TX ? 4 : 2,
    entries: words[(xsk + Xsk.ringEntries + ring * 4) >> 2]!,
  };
}

/** Lays out empty rings for a path whose other end is a thread. */
export function layOwnRings(memory: Memory, address: QueueAddress): void {
  const { words, layout } = memory;
  const xsk = memory.slot(address).offset('xsk');
  for (const ring of Object.values(Ring)) {
    const at = ringOffset(memory, address, ring) >> 2;
    words.fill(0, at, at + (layout.ringRoom(ring) >> 2));
    const from = (xsk + Xsk.ring + ring * RING_BYTES) >> 2;
    words[from] = OWN_RING.producer;
    words[from + 1] = OWN_RING.consumer;
    words[from + 2] = OWN_RING.flags;
    words[from + 3] = OWN_RING.desc;
    words[(xsk + Xsk.ringEntries + ring * 4) >> 2] = layout.geometry.ringEntries;
  }
}

/** The slot's `struct tp_xsk`, for the shim. */
export function xskRequest(memory: Memory, address: QueueAddress): Uint8Array {
  const xsk = memory.slot(address).offset('xsk');
  return memory.bytes.subarray(xsk, xsk + Xsk.bytes);
}

/**
 * Asks for an AF_XDP socket over the slot's rings.
 *
 * @param base address of the shared memory
 * @param registers whether the socket registers the frames, and does not share those of another
 */
export function askForXsk(
  memory: Memory,
  address: QueueAddress,
  base: number,
  registers: boolean,
): Uint8Array {
  const { words, layout } = memory;
  const { frameSize, ringEntries } = layout.geometry;
  const xsk = memory.slot(address).offset('xsk');
  u64(memory, xsk + Xsk.umemAddr, base + layout.frames);
  u64(memory, xsk + Xsk.umemLen, registers ? layout.framesBytes : 0);
  words[(xsk + Xsk.frameSize) >> 2] = Math.min(frameSize, CHUNK);
  words[(xsk + Xsk.headroom) >> 2] = 0;
  for (const ring of Object.values(Ring)) {
    u64(memory, xsk + Xsk.ringAddr + ring * 8, base + ringOffset(memory, address, ring));
    words[(xsk + Xsk.ringRoom + ring * 4) >> 2] = layout.ringRoom(ring);
    words[(xsk + Xsk.ringEntries + ring * 4) >> 2] = ringEntries;
  }
  return xskRequest(memory, address);
}

/** The step in which opening an AF_XDP socket failed: an index of STEPS in abi.ts. */
export function xskStep(memory: Memory, address: QueueAddress): number {
  return memory.words[(memory.slot(address).offset('xsk') + Xsk.step) >> 2]!;
}

/** The frames that an io_uring may register: those of the queue's own worker. */
export const ownFrames = ({ layout }: Memory, queue: number): number =>
  layout.frames + queue * layout.geometry.framesPerWorker * layout.geometry.frameSize;

/** Asks for an io_uring over the slot's rings. @param base address of the shared memory */
export function askForUring(memory: Memory, address: QueueAddress, base: number): Uint8Array {
  const { words, layout, bytes } = memory;
  const { ringEntries, framesPerWorker, frameSize } = layout.geometry;
  const slot = memory.slot(address);
  const uring = slot.offset('uring');
  u64(memory, uring + Uring.ringsAddr, base + ringOffset(memory, address, Ring.RX));
  u64(memory, uring + Uring.sqesAddr, base + ringOffset(memory, address, Ring.TX));
  u64(memory, uring + Uring.framesAddr, base + ownFrames(memory, address.queue));
  words[(uring + Uring.framesBytes) >> 2] = framesPerWorker * frameSize;
  words[(uring + Uring.ringsRoom) >> 2] = layout.ringRoom(Ring.RX);
  words[(uring + Uring.sqesRoom) >> 2] = layout.ringRoom(Ring.TX);
  // Four times as many completions as entries. Only a switch that rescues a whole ring of another path may need more for a
  // moment: the kernel keeps those (IORING_FEAT_NODROP).
  words[(uring + Uring.sqEntries) >> 2] = ringEntries >> 2;
  words[(uring + Uring.cqEntries) >> 2] = ringEntries;
  words[(uring + Uring.file) >> 2] = slot.fd;
  return bytes.subarray(uring, uring + Uring.bytes);
}

/** An open io_uring, as the kernel described it. */
export interface UringPlace {
  readonly sq: RingPlace;
  readonly cq: RingPlace;
  /** Bits of `Registered` in abi.ts: resources that the kernel has registered. */
  readonly registered: number;
  readonly file: number;
  /** Bytes of the frames that may be registered. */
  readonly framesBytes: number;
}

export function uringPlace(memory: Memory, address: QueueAddress): UringPlace {
  const { words } = memory;
  const uring = memory.slot(address).offset('uring');
  const rings = ringOffset(memory, address, Ring.RX);
  const field = (at: number): number => words[(uring + at) >> 2]!;
  const word = (at: number): number => (rings + field(at)) >> 2;
  return {
    sq: {
      consumer: word(Uring.sqHead),
      producer: word(Uring.sqHead + 4),
      flags: word(Uring.sqHead + 8),
      slots: ringOffset(memory, address, Ring.TX) >> 2,
      slotWords: 16,
      entries: field(Uring.sqEntries),
    },
    cq: {
      consumer: word(Uring.cqHead),
      producer: word(Uring.cqHead + 4),
      flags: -1,
      slots: word(Uring.cqHead + 12),
      slotWords: 4,
      entries: field(Uring.cqEntries),
    },
    registered: field(Uring.registered),
    file: field(Uring.file),
    framesBytes: field(Uring.framesBytes),
  };
}
