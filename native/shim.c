/*
 * Twinpath's native shim: opens, maps, binds, kicks, waits and closes.
 *
 * Rules: every function returns a count or a negative errno. Addresses are plain 64-bit
 * numbers that TypeScript has computed from the shared memory. No allocation, no threads, no
 * state, no libc (except in tp_millis, if the process has one). The only loops over packets are
 * tp_read_burst, tp_read_pairs, tp_write_burst and tp_write_chains, for taps without io_uring;
 * TypeScript does everything else with packets.
 */
#include "layout.h"
#include "syscall.h"

#define API __attribute__((visibility("default")))
#define PTR(address) ((void *)(unsigned long)(address))

struct iovec { u64 base, length; };
struct timespec { s64 seconds, nanos; };

enum { EINTR = 4, EAGAIN = 11, EINVAL = 22, ENOSPC = 28 };
enum { POLL_LIMIT_MILLIS = 50 };

/* gcc may call this even in a freestanding build. */
__attribute__((used)) void *memset(void *to, int value, unsigned long count)
{
	volatile u8 *at = to;
	while (count--)
		*at++ = (u8)value;
	return to;
}

API int tp_abi(void) { return TP_ABI; }

/* Field offsets by number, for the test that compares them with TypeScript's. */
API int tp_offset(int field)
{
	static const u16 offsets[] = {
		__builtin_offsetof(struct tp_xsk, umem_addr),
		__builtin_offsetof(struct tp_xsk, umem_len),
		__builtin_offsetof(struct tp_xsk, frame_size),
		__builtin_offsetof(struct tp_xsk, headroom),
		__builtin_offsetof(struct tp_xsk, ring_addr),
		__builtin_offsetof(struct tp_xsk, ring_room),
		__builtin_offsetof(struct tp_xsk, ring_entries),
		__builtin_offsetof(struct tp_xsk, fd),
		__builtin_offsetof(struct tp_xsk, step),
		__builtin_offsetof(struct tp_xsk, ring),
		sizeof(struct tp_xsk),
		__builtin_offsetof(struct tp_uring, rings_addr),
		__builtin_offsetof(struct tp_uring, sqes_addr),
		__builtin_offsetof(struct tp_uring, frames_addr),
		__builtin_offsetof(struct tp_uring, frames_bytes),
		__builtin_offsetof(struct tp_uring, rings_room),
		__builtin_offsetof(struct tp_uring, sqes_room),
		__builtin_offsetof(struct tp_uring, sq_entries),
		__builtin_offsetof(struct tp_uring, cq_entries),
		__builtin_offsetof(struct tp_uring, file),
		__builtin_offsetof(struct tp_uring, fd),
		__builtin_offsetof(struct tp_uring, step),
		__builtin_offsetof(struct tp_uring, sq_head),
		__builtin_offsetof(struct tp_uring, cq_head),
		__builtin_offsetof(struct tp_uring, setup_flags),
		__builtin_offsetof(struct tp_uring, registered),
		sizeof(struct tp_uring),
		sizeof(struct tp_span),
	};
	if (field < 0 || field >= (int)(sizeof(offsets) / sizeof(offsets[0])))
		return -22;
	return offsets[field];
}

/* --- files, sockets, threads: one system call each ------------------------------------- */

API int tp_open(const char *path, int flags) { return SYS4(NR_openat, -100, path, flags, 0); }
API int tp_close(int fd) { return SYS1(NR_close, fd); }
API int tp_read(int fd, u64 at, u32 length) { return SYS3(NR_read, fd, at, length); }
API int tp_write(int fd, u64 at, u32 length) { return SYS3(NR_write, fd, at, length); }

/*
 * These write the result to memory before they return. A JavaScript thread may end right after the call, and its successor
 * has to know what was read or sent. `at` and `note` are the offsets of the packet and of the result, `pair` that of two
 * struct iovec to read into.
 */
API int tp_read_noted(int fd, u64 base, u32 pair, u32 note)
{
	return *(volatile s32 *)PTR(base + note) = SYS3(NR_readv, fd, base + pair, 2);
}

API int tp_write_noted(int fd, u64 base, u32 at, u32 length, u32 note)
{
	return *(volatile s32 *)PTR(base + note) = SYS3(NR_write, fd, base + at, length);
}

API int tp_ioctl(int fd, u32 request, u64 argument) { return SYS3(NR_ioctl, fd, request, argument); }
API int tp_eventfd(void) { return SYS2(NR_eventfd2, 0, 02000000 | 04000); }
API int tp_setns(int fd, int kind) { return SYS2(NR_setns, fd, kind); }
API int tp_thread_name(const char *name) { return SYS2(NR_prctl, 15, name); }
API int tp_bpf(int command, u64 attributes, u32 size) { return SYS3(NR_bpf, command, attributes, size); }

API int tp_affinity(int cpu)
{
	u64 mask[16];
	if (cpu < 0 || cpu >= 1024)
		return -22;
	memset(mask, 0, sizeof(mask));
	mask[cpu / 64] = 1ULL << (cpu % 64);
	long ret = SYS3(NR_sched_setaffinity, 0, sizeof(mask), mask);
	return ret < 0 ? ret : 0;
}

API int tp_socket(int domain, int type, int protocol) { return SYS3(NR_socket, domain, type, protocol); }
API int tp_bind(int fd, u64 name, u32 length) { return SYS3(NR_bind, fd, name, length); }
API int tp_connect(int fd, u64 name, u32 length) { return SYS3(NR_connect, fd, name, length); }

API int tp_send(int fd, u64 at, u32 length, int flags)
{
	return SYS6(NR_sendto, fd, at, length, flags, 0, 0);
}

API int tp_recv(int fd, u64 at, u32 length, int flags)
{
	return SYS6(NR_recvfrom, fd, at, length, flags, 0, 0);
}

API int tp_sendmmsg(int fd, u64 messages, u32 count, int flags)
{
	return SYS4(NR_sendmmsg, fd, messages, count, flags);
}

API int tp_recvmmsg(int fd, u64 messages, u32 count, int flags)
{
	return SYS5(NR_recvmmsg, fd, messages, count, flags, 0);
}

API int tp_setsockopt(int fd, int level, int option, u64 value, u32 length)
{
	return SYS5(NR_setsockopt, fd, level, option, value, length);
}

/* The option's length, or a negative errno. */
API int tp_getsockopt(int fd, int level, int option, u64 value, u32 room)
{
	u32 length = room;
	long ret = SYS5(NR_getsockopt, fd, level, option, value, &length);
	return ret < 0 ? ret : (int)length;
}

static long poll_for(u64 pollfds, u32 count, s64 nanos)
{
	struct timespec timeout = { 0, nanos };
	long ret = SYS5(NR_ppoll, pollfds, count, &timeout, 0, 8);
	return ret == -EINTR ? 0 : ret;
}

/* Waits at most 50 ms: a worker must check its stop word. 0 on EINTR. */
API int tp_poll(u64 pollfds, u32 count, int millis)
{
	if (millis < 0 || millis > POLL_LIMIT_MILLIS)
		millis = POLL_LIMIT_MILLIS;
	return poll_for(pollfds, count, (s64)millis * 1000000);
}

/* The same in microseconds, plus the kernel's timer slack: 50 us by default. */
API int tp_poll_micros(u64 pollfds, u32 count, u32 micros)
{
	if (micros > POLL_LIMIT_MILLIS * 1000)
		micros = POLL_LIMIT_MILLIS * 1000;
	return poll_for(pollfds, count, (s64)micros * 1000);
}

/* The process's libc, if any: no system call, an eighth of the time. */
extern int clock_gettime(int clock, struct timespec *now) __attribute__((weak, visibility("default")));

/* CLOCK_MONOTONIC in milliseconds, modulo 2^31: V8 allocates no object for an integer of 31 bits. */
API int tp_millis(void)
{
	struct timespec now;
	if (!clock_gettime || clock_gettime(1, &now) != 0)
		SYS2(NR_clock_gettime, 1, &now);
	return (now.seconds * 1000 + now.nanos / 1000000) & 0x7fffffff;
}

/* --- pages of the shared memory -------------------------------------------------------- */

enum { PROT_RW = 3, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANON = 0x20, MAP_POPULATE = 0x8000 };

static long map_over(u64 at, u64 length, int fd, u64 offset)
{
	long ret = SYS6(NR_mmap, at, length, PROT_RW, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, offset);
	return ret < 0 && ret > -4096 ? ret : 0;
}

/* Replaces the pages of a ring by anonymous pages: only this releases an AF_XDP queue. */
static long unmap_over(u64 at, u64 length)
{
	long ret = SYS6(NR_mmap, at, length, PROT_RW, MAP_PRIVATE | MAP_FIXED | MAP_ANON, -1, 0);
	return ret < 0 && ret > -4096 ? ret : 0;
}

/* --- AF_XDP: include/uapi/linux/if_xdp.h ------------------------------------------------ */

enum { AF_XDP = 44, SOCK_RAW_CLOEXEC = 3 | 02000000, SOL_XDP = 283 };
enum { XDP_MMAP_OFFSETS = 1, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_REG, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING };
enum { XDP_MAX_TX_SKB_BUDGET = 9 };

struct xdp_umem_reg { u64 addr, len; u32 chunk_size, headroom, flags, tx_metadata_len; };
struct xdp_ring_offset { u64 producer, consumer, desc, flags; };
struct xdp_mmap_offsets { struct xdp_ring_offset rx, tx, fr, cr; };
struct sockaddr_xdp { u16 family, flags; u32 ifindex, queue_id, shared_umem_fd; };

_Static_assert(sizeof(struct xdp_umem_reg) == 32, "no padding may reach the kernel");
_Static_assert(sizeof(struct sockaddr_xdp) == 16, "sockaddr_xdp");

static void xsk_unmap(struct tp_xsk *x)
{
	for (int i = 0; i < TP_RINGS; i++) {
		if (x->ring[i].mapped)
			unmap_over(x->ring_addr[i], x->ring[i].mapped);
		x->ring[i].mapped = 0;
	}
}

static long xsk_fail(struct tp_xsk *x, u32 step, long error)
{
	x->step = step;
	xsk_unmap(x);
	if (x->fd >= 0)
		SYS1(NR_close, x->fd);
	x->fd = -1;
	return error;
}

/* Opens a socket, registers the UMEM if it has a length, and maps all four rings. Does not bind. Returns the descriptor. */
API int tp_xsk_open(u64 request)
{
	static const u16 option[TP_RINGS] = { XDP_UMEM_FILL_RING, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_COMPLETION_RING };
	static const u64 pgoff[TP_RINGS] = { 0x100000000ULL, 0, 0x80000000ULL, 0x180000000ULL };
	struct tp_xsk *x = PTR(request);
	struct xdp_umem_reg umem;
	struct xdp_mmap_offsets offsets;
	long ret;

	x->step = 0;
	for (int i = 0; i < TP_RINGS; i++)
		x->ring[i].mapped = 0;
	x->fd = ret = SYS3(NR_socket, AF_XDP, SOCK_RAW_CLOEXEC, 0);
	if (ret < 0)
		return xsk_fail(x, TP_STEP_SOCKET, ret);

	umem.addr = x->umem_addr;
	umem.len = x->umem_len;
	umem.chunk_size = x->frame_size;
	umem.headroom = x->headroom;
	umem.flags = 0;
	umem.tx_metadata_len = 0;
	/* Kernels before 6.8 have the structure without its last word, and accept this longer one. */
	ret = umem.len ? SYS5(NR_setsockopt, x->fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof(umem)) : 0;
	if (ret < 0)
		return xsk_fail(x, TP_STEP_UMEM, ret);

	for (int i = 0; i < TP_RINGS; i++) {
		ret = SYS5(NR_setsockopt, x->fd, SOL_XDP, option[i], &x->ring_entries[i], 4);
		if (ret < 0)
			return xsk_fail(x, TP_STEP_RING_SIZE, ret);
	}

	ret = tp_getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, (u64)(unsigned long)&offsets, sizeof(offsets));
	if (ret != (long)sizeof(offsets)) /* before 5.4: no flags, no need_wakeup */
		return xsk_fail(x, TP_STEP_OFFSETS, ret < 0 ? ret : -95);

	const struct xdp_ring_offset *where[TP_RINGS] = { &offsets.fr, &offsets.rx, &offsets.tx, &offsets.cr };
	for (int i = 0; i < TP_RINGS; i++) {
		u32 stride = i == TP_RX || i == TP_TX ? 16 : 8;
		u32 length = where[i]->desc + x->ring_entries[i] * stride;
		if (length > x->ring_room[i])
			return xsk_fail(x, TP_STEP_ROOM, -ENOSPC);
		ret = map_over(x->ring_addr[i], length, x->fd, pgoff[i]);
		if (ret < 0)
			return xsk_fail(x, TP_STEP_MAP, ret);
		x->ring[i].producer = where[i]->producer;
		x->ring[i].consumer = where[i]->consumer;
		x->ring[i].flags = where[i]->flags;
		x->ring[i].desc = where[i]->desc;
		x->ring[i].mapped = length;
	}
	/* More than 32 frames per kick. Kernels before 6.17 refuse this and keep 32. */
	SYS5(NR_setsockopt, x->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &x->ring_entries[TP_TX], 4);
	return x->fd;
}

/* Takes RTNL, so it may wait for seconds while the host adds or removes a VF. `umem`: the socket whose UMEM is shared, or 0. */
API int tp_xsk_bind(int fd, u32 ifindex, u32 queue, u32 flags, int umem)
{
	struct sockaddr_xdp name = { AF_XDP, (u16)flags, ifindex, queue, (u32)umem };
	return SYS3(NR_bind, fd, &name, sizeof(name));
}

/* Unmaps the rings and closes. Waits about 20 ms for the kernel (synchronize_net). */
API int tp_xsk_close(u64 request)
{
	struct tp_xsk *x = PTR(request);
	int fd = x->fd;
	xsk_unmap(x);
	x->fd = -1;
	return fd < 0 ? 0 : SYS1(NR_close, fd);
}

API int tp_xsk_kick(int fd) { return SYS6(NR_sendto, fd, 0, 0, 0x40 /* MSG_DONTWAIT */, 0, 0); }
/* The same for the fill ring, on which a zero-copy driver waits for frames. */
API int tp_xsk_wake(int fd) { return SYS6(NR_recvfrom, fd, 0, 0, 0x40, 0, 0); }

/* --- io_uring: include/uapi/linux/io_uring.h -------------------------------------------- */

struct io_sqring_offsets { u32 head, tail, ring_mask, ring_entries, flags, dropped, array, resv1; u64 user_addr; };
struct io_cqring_offsets { u32 head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1; u64 user_addr; };
struct io_uring_params {
	u32 sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
	struct io_sqring_offsets sq_off;
	struct io_cqring_offsets cq_off;
};

_Static_assert(sizeof(struct io_uring_params) == 120, "io_uring_params");

enum {
	SETUP_CQSIZE = 1 << 3,
	SETUP_TASKRUN_FLAG = 1 << 9,
	SETUP_SINGLE_ISSUER = 1 << 12,
	SETUP_DEFER_TASKRUN = 1 << 13,
	SETUP_NO_MMAP = 1 << 14,
	SETUP_NO_SQARRAY = 1 << 16,
	REGISTER_BUFFERS = 0,
	REGISTER_FILES = 2,
};

/*
 * Sets a ring up for the calling thread alone. The kernel pins the pages of the request. Kernels
 * before 6.10 need them physically contiguous and return EINVAL: the caller then works without
 * io_uring. Returns the descriptor.
 *
 * Rings that the kernel allocates cannot be mapped into the shared memory: MAP_FIXED and MREMAP_FIXED
 * are EINVAL (io_uring.c, io_uring_mmu_get_unmapped_area; 6.1.192 and 6.18).
 *
 * The file and the frames are registered, which saves the kernel a look-up and a page table walk
 * for each packet. If it refuses (RLIMIT_MEMLOCK), entries name them by descriptor and address.
 *
 * NB: a closed ring lives on in a kernel work item for a while and still stores its cursors
 * (io_uring.c, io_ring_exit_work). So each ring gets new pages, zeroed by the kernel. The old pages
 * stay pinned by the old ring alone.
 */
API int tp_uring_open(u64 request)
{
	struct tp_uring *u = PTR(request);
	struct io_uring_params p;
	struct iovec frames = { u->frames_addr, u->frames_bytes };
	long ret;

	u->fd = -1;
	u->registered = 0;
	u->step = TP_STEP_MAP;
	if ((ret = unmap_over(u->rings_addr, u->rings_room)) < 0 ||
	    (ret = unmap_over(u->sqes_addr, u->sqes_room)) < 0)
		return ret;
	memset(&p, 0, sizeof(p));
	p.sq_entries = u->sq_entries;
	p.cq_entries = u->cq_entries;
	p.flags = SETUP_CQSIZE | SETUP_NO_MMAP | SETUP_NO_SQARRAY | SETUP_TASKRUN_FLAG | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN;
	p.cq_off.user_addr = u->rings_addr;
	p.sq_off.user_addr = u->sqes_addr;
	u->step = 0;
	u->fd = ret = SYS2(NR_io_uring_setup, u->sq_entries, &p);
	if (ret < 0) {
		u->step = TP_STEP_SETUP;
		return ret;
	}
	if (SYS4(NR_io_uring_register, u->fd, REGISTER_FILES, &u->file, 1) >= 0)
		u->registered |= TP_FILE;
	if (SYS4(NR_io_uring_register, u->fd, REGISTER_BUFFERS, &frames, 1) >= 0)
		u->registered |= TP_FRAMES;
	u->sq_head = p.sq_off.head;
	u->sq_tail = p.sq_off.tail;
	u->sq_flags = p.sq_off.flags;
	u->sq_array = p.sq_off.array;
	u->cq_head = p.cq_off.head;
	u->cq_tail = p.cq_off.tail;
	u->cq_overflow = p.cq_off.overflow;
	u->cqes = p.cq_off.cqes;
	u->setup_flags = p.flags;
	return u->fd;
}

/* Submits entries and runs deferred completions, without waiting. Returns the number of submitted entries. */
API int tp_uring_enter(int fd, u32 submit)
{
	return SYS6(NR_io_uring_enter, fd, submit, 0, 1 /* IORING_ENTER_GETEVENTS */, 0, 0);
}

/* --- the tap without io_uring ----------------------------------------------------------- */

/* Reads packets until the queue is empty. Returns the number of packets. */
API int tp_read_burst(int fd, u64 base, u64 spans, u32 count)
{
	struct tp_span *span = PTR(spans);
	u32 done = 0;
	while (done < count) {
		long ret = SYS3(NR_read, fd, base + span[done].offset, span[done].length);
		if (ret < 0)
			return done || ret == -EAGAIN ? (int)done : ret;
		span[done++].length = ret;
	}
	return done;
}

/* The same into pairs of struct iovec: packet i into pair i, its length into lengths[i]. */
API int tp_read_pairs(int fd, u64 pairs, u64 lengths, u32 count)
{
	struct iovec *pair = PTR(pairs);
	u32 *length = PTR(lengths);
	for (u32 done = 0; done < count; done++) {
		long ret = SYS3(NR_readv, fd, pair + 2 * done, 2);
		if (ret < 0)
			return done || ret == -EAGAIN ? (int)done : ret;
		length[done] = ret;
	}
	return count;
}

/* Writes packets in order, up to the first refusal. Returns the number of packets written. */
API int tp_write_burst(int fd, u64 base, u64 spans, u32 count)
{
	struct tp_span *span = PTR(spans);
	u32 done = 0;
	while (done < count) {
		long ret = SYS3(NR_write, fd, base + span[done].offset, span[done].length);
		if (ret < 0)
			return done ? (int)done : ret;
		done++;
	}
	return done;
}

enum { CHAIN_LIMIT = 64 };

/*
 * Writes packets made of pieces, in order: packet i is the next counts[i] spans (1 to 64), one
 * writev. Stops at the first refusal, or at a count out of range. Returns the number of packets written.
 */
API int tp_write_chains(int fd, u64 base, u64 spans, u64 counts, u32 chains)
{
	struct tp_span *span = PTR(spans);
	u32 *count = PTR(counts);
	struct iovec pieces[CHAIN_LIMIT];
	for (u32 done = 0; done < chains; done++) {
		long ret = -EINVAL;
		if (count[done] >= 1 && count[done] <= CHAIN_LIMIT) {
			for (u32 i = 0; i < count[done]; i++, span++) {
				pieces[i].base = base + span->offset;
				pieces[i].length = span->length;
			}
			ret = SYS3(NR_writev, fd, pieces, count[done]);
		}
		if (ret < 0)
			return done ? (int)done : ret;
	}
	return chains;
}
