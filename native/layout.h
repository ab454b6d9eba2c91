/*
 * The structures that TypeScript and the shim share.
 *
 * Two request blocks are in the shared memory. TypeScript fills the "in" half of a block, the shim
 * the "out" half. src/memory/abi.ts has the same offsets, and a test compares them with
 * tp_offset(). Increase TP_ABI whenever a number here changes.
 */
#ifndef TWINPATH_LAYOUT_H
#define TWINPATH_LAYOUT_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define TP_ABI 6

/* The four rings of an AF_XDP socket, in the order of every array below. */
enum { TP_FILL, TP_RX, TP_TX, TP_COMPLETION, TP_RINGS };

/* The words of one ring: byte offsets from the start of its mapping. */
struct tp_ring {
	u32 producer;
	u32 consumer;
	u32 flags;
	u32 desc;
	u32 mapped; /* bytes mapped: tp_xsk_close unmaps them */
	u32 pad;
};

/* tp_xsk_open: an AF_XDP socket whose UMEM and rings are in the shared memory. */
struct tp_xsk {
	/* in */
	u64 umem_addr; /* page aligned */
	u64 umem_len;
	u32 frame_size; /* of a chunk: 2048 or 4096 */
	u32 headroom;   /* in addition to the kernel's own 256 bytes */
	u64 ring_addr[TP_RINGS]; /* page aligned */
	u32 ring_room[TP_RINGS]; /* bytes reserved there */
	u32 ring_entries[TP_RINGS];
	/* out */
	s32 fd;
	u32 step; /* on failure: which TP_STEP_* failed */
	struct tp_ring ring[TP_RINGS];
};

/* tp_uring_open: an io_uring with its rings and SQEs in the shared memory, for one file and one range of frames. */
struct tp_uring {
	/* in */
	u64 rings_addr;
	u64 sqes_addr;
	u64 frames_addr;
	u32 frames_bytes;
	u32 rings_room;
	u32 sqes_room;
	u32 sq_entries;
	u32 cq_entries;
	s32 file;
	/* out: byte offsets from rings_addr */
	s32 fd;
	u32 step;
	u32 sq_head, sq_tail, sq_flags, sq_array;
	u32 cq_head, cq_tail, cq_overflow, cqes;
	u32 setup_flags;
	u32 registered; /* TP_FILE and TP_FRAMES, as far as the kernel registered them */
};

/* The file is registered file 0, the frames are registered buffer 0. */
enum { TP_FILE = 1, TP_FRAMES = 2 };

enum {
	TP_STEP_SOCKET = 1,
	TP_STEP_UMEM,
	TP_STEP_RING_SIZE,
	TP_STEP_OFFSETS,
	TP_STEP_ROOM,
	TP_STEP_MAP,
	TP_STEP_SETUP,
	TP_STEP_REQUEST,
};

/* One frame of a plain tap burst, or one piece of a chain, at base + offset. */
struct tp_span {
	u32 offset;
	s32 length; /* read: the room, then the bytes read; write: the bytes to write */
};

_Static_assert(sizeof(struct tp_ring) == 24, "ring geometry");
_Static_assert(sizeof(struct tp_xsk) == 192, "xsk request");
_Static_assert(sizeof(struct tp_uring) == 96, "uring request");
_Static_assert(sizeof(struct tp_span) == 8, "span");

#endif
