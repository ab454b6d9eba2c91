/*
 * What crosses the boundary between TypeScript and the shim, and nothing else.
 *
 * Two request blocks live in the shared memory: TypeScript fills the "in" half, the shim
 * fills the "out" half. src/memory/abi.ts states the same offsets and a test compares
 * them with what tp_offset() reports. Bump TP_ABI whenever a number here changes.
 */
#ifndef TWINPATH_LAYOUT_H
#define TWINPATH_LAYOUT_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define TP_ABI 5

/* The four rings of an AF_XDP socket, in the order of every array below. */
enum { TP_FILL, TP_RX, TP_TX, TP_COMPLETION, TP_RINGS };

/* Where the kernel put the words of one ring: byte offsets from the start of its mapping. */
struct tp_ring {
	u32 producer;
	u32 consumer;
	u32 flags;
	u32 desc;
	u32 mapped; /* bytes mapped, to be given back by tp_xsk_close */
	u32 pad;
};

/* tp_xsk_open: an AF_XDP socket whose UMEM and rings lie inside the shared memory. */
struct tp_xsk {
	/* in */
	u64 umem_addr; /* page aligned */
	u64 umem_len;
	u32 frame_size; /* 2048 or 4096 */
	u32 headroom;   /* beyond the kernel's own 256 bytes */
	u64 ring_addr[TP_RINGS]; /* page aligned */
	u32 ring_room[TP_RINGS]; /* bytes reserved there */
	u32 ring_entries[TP_RINGS];
	/* out */
	s32 fd;
	u32 step; /* on failure: which TP_STEP_* failed */
	struct tp_ring ring[TP_RINGS];
};

/* tp_uring_open: an io_uring whose rings and SQEs lie there too, for one file and one range of frames. */
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
	u32 registered; /* TP_FILE and TP_FRAMES, where the kernel took them */
};

/* The file is number 0 of the registered ones, the frames are registered buffer 0. */
enum { TP_FILE = 1, TP_FRAMES = 2 };

enum {
	TP_STEP_SOCKET = 1,
	TP_STEP_UMEM,
	TP_STEP_RING_SIZE,
	TP_STEP_OFFSETS,
	TP_STEP_ROOM,
	TP_STEP_MAP,
	TP_STEP_SETUP,
};

/* One frame of a plain tap burst, or one piece of a chain: read into, or written from, base + offset. */
struct tp_span {
	u32 offset;
	s32 length; /* room before a read, bytes after it; bytes to write */
};

_Static_assert(sizeof(struct tp_ring) == 24, "ring geometry");
_Static_assert(sizeof(struct tp_xsk) == 192, "xsk request");
_Static_assert(sizeof(struct tp_uring) == 96, "uring request");
_Static_assert(sizeof(struct tp_span) == 8, "span");

#endif
