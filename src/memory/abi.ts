/**
 * The TypeScript side of native/layout.h: byte offsets in the two request blocks.
 *
 * Drawn as the C structures are; test/unit/memory/abi.test.ts compares each number with what the shim
 * reports through `tp_offset`. Change both and bump `ABI` in the same commit.
 */

export const ABI = 6;

/** `struct tp_xsk`: how an AF_XDP socket is opened, and where the kernel put its rings. */
export const Xsk = {
  umemAddr: 0,
  umemLen: 8,
  frameSize: 16,
  headroom: 20,
  /** u64 × 4: fill, rx, tx, completion. */
  ringAddr: 24,
  /** u32 × 4. */
  ringRoom: 56,
  /** u32 × 4. */
  ringEntries: 72,
  fd: 88,
  step: 92,
  /** `struct tp_ring` × 4: producer, consumer, flags, desc, mapped, pad; u32 each. */
  ring: 96,
  bytes: 192,
} as const;

/** `struct tp_uring`: the same for an io_uring. */
export const Uring = {
  ringsAddr: 0,
  sqesAddr: 8,
  framesAddr: 16,
  framesBytes: 24,
  ringsRoom: 28,
  sqesRoom: 32,
  sqEntries: 36,
  cqEntries: 40,
  file: 44,
  fd: 48,
  step: 52,
  /** sqHead, sqTail, sqFlags, sqArray; u32 each. */
  sqHead: 56,
  /** cqHead, cqTail, cqOverflow, cqes; u32 each. */
  cqHead: 72,
  setupFlags: 88,
  /** {@link Registered} bits. */
  registered: 92,
  bytes: 96,
} as const;

/** Resources that the kernel has registered: TP_FILE, TP_FRAMES. */
export const Registered = { file: 1, frames: 2 } as const;

/** `struct tp_span`: u32 offset, s32 length. */
export const SPAN_BYTES = 8;

/** In the order of `tp_offset(0…)`. */
export const OFFSETS: readonly number[] = [
  ...[Xsk.umemAddr, Xsk.umemLen, Xsk.frameSize, Xsk.headroom, Xsk.ringAddr, Xsk.ringRoom],
  ...[Xsk.ringEntries, Xsk.fd, Xsk.step, Xsk.ring, Xsk.bytes],
  ...[Uring.ringsAddr, Uring.sqesAddr, Uring.framesAddr, Uring.framesBytes, Uring.ringsRoom],
  ...[Uring.sqesRoom, Uring.sqEntries, Uring.cqEntries, Uring.file, Uring.fd, Uring.step],
  ...[Uring.sqHead, Uring.cqHead, Uring.setupFlags, Uring.registered, Uring.bytes, SPAN_BYTES],
];

/** The system call for each `step` of a failed request, for the error. */
export const STEPS: readonly string[] = [
  '',
  'socket(AF_XDP)',
  'setsockopt(XDP_UMEM_REG)',
  'setsockopt(XDP ring size)',
  'getsockopt(XDP_MMAP_OFFSETS)',
  'ring layout',
  'mmap(AF_XDP ring)',
  'io_uring_setup',
  'request',
];
