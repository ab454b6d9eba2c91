/*
 * Twinpath's native shim: opens, maps, binds, kicks, waits and closes.
 *
 * Rules: every function returns a count or a negative errno. No allocation, no threads, no
 * state, no libc (except in tp_millis, if the process has one). The only loops over packets are
 * tp_read_burst, tp_read_pairs, tp_write_burst and tp_write_chains, for taps without io_uring;
 * TypeScript does everything else with packets.
 *
 * Memory: each address comes with its room, the bytes from there on that the call may touch. TypeScript
 * takes both from one typed array. Each offset, length and count is checked against the room before
 * anything is read or written: -EFAULT outside of it, -EINVAL if misaligned or negative. An address without its room is
 * in three places only, which the kernel follows itself: the attributes of bpf, the ifreq of an
 * ethtool request, and the messages of sendmmsg and recvmmsg. The kernel checks descriptors: -EBADF.
 */
#include "layout.h"
#include "syscall.h"

#define API __attribute__((visibility("default")))
#define PTR(address) ((void *)(unsigned long)(address))

struct iovec { u64 base, length; };
/* Of two struct iovec. */
#define PAIR_BYTES 32ULL
struct timespec { s64 seconds, nanos; };

enum { EINTR = 4, EAGAIN = 11, EFAULT = 14, EINVAL = 22, ENOSPC = 28, EOPNOTSUPP = 95 };
enum { POLL_LIMIT_MILLIS = 50 };
/* Linux maps nothing below: vm.mmap_min_addr, and the null page in any case. */
enum { FIRST_ADDRESS = 4096, PAGE = 4096 };

/* Whether the bytes from `at` on are inside of the room. Nothing overflows. */
static int within(u64 room, u64 at, u64 length)
{
	return at <= room && length <= room - at;
}

/* The same for a room that begins at `base`, of which 0 bytes may have any address. */
static int holds(u64 base, u64 room, u64 at, u64 length)
{
	return length == 0 || (base >= FIRST_ADDRESS && within(ADDRESSES, base, room) && within(room, at, length));
}

/* Whether the bytes at that address are inside of the room that begins at `base`. */
static int contains(u64 base, u64 room, u64 address, u64 length)
{
	return length == 0 || (address >= base && holds(base, room, address - base, length));
}

/* 0, or why `count` elements of `bytes` each cannot be at `base`. */
static int array_fault(u64 base, u64 room, u64 count, u32 bytes, u32 alignment)
{
	if (base % alignment)
		return -EINVAL;
	return holds(base, room, 0, count * bytes) ? 0 : -EFAULT;
}

/* gcc may call this even in a freestanding build. */
__attribute__((used)) void *memset(void *to, int value, unsigned long count)
{
	volatile u8 *at = to;
	while (count--)
		*at++ = (u8)value; /* no loop that gcc turns into a call of memset */
	return to;
}

API int tp_abi(void) { return TP_ABI; }

/* Field offsets by number, for the test that compares them with TypeScript's. */
API int tp_offset(int field)
{
	static const int offsets[] = {
		(int)__builtin_offsetof(struct tp_xsk, umem_addr),
		(int)__builtin_offsetof(struct tp_xsk, umem_len),
		(int)__builtin_offsetof(struct tp_xsk, frame_size),
		(int)__builtin_offsetof(struct tp_xsk, headroom),
		(int)__builtin_offsetof(struct tp_xsk, ring_addr),
		(int)__builtin_offsetof(struct tp_xsk, ring_room),
		(int)__builtin_offsetof(struct tp_xsk, ring_entries),
		(int)__builtin_offsetof(struct tp_xsk, fd),
		(int)__builtin_offsetof(struct tp_xsk, step),
		(int)__builtin_offsetof(struct tp_xsk, ring),
		(int)sizeof(struct tp_xsk),
		(int)__builtin_offsetof(struct tp_uring, rings_addr),
		(int)__builtin_offsetof(struct tp_uring, sqes_addr),
		(int)__builtin_offsetof(struct tp_uring, frames_addr),
		(int)__builtin_offsetof(struct tp_uring, frames_bytes),
		(int)__builtin_offsetof(struct tp_uring, rings_room),
		(int)__builtin_offsetof(struct tp_uring, sqes_room),
		(int)__builtin_offsetof(struct tp_uring, sq_entries),
		(int)__builtin_offsetof(struct tp_uring, cq_entries),
		(int)__builtin_offsetof(struct tp_uring, file),
		(int)__builtin_offsetof(struct tp_uring, fd),
		(int)__builtin_offsetof(struct tp_uring, step),
		(int)__builtin_offsetof(struct tp_uring, sq_head),
		(int)__builtin_offsetof(struct tp_uring, cq_head),
		(int)__builtin_offsetof(struct tp_uring, setup_flags),
		(int)__builtin_offsetof(struct tp_uring, registered),
		(int)sizeof(struct tp_uring),
		(int)sizeof(struct tp_span),
	};
	if (field < 0 || field >= (int)(sizeof(offsets) / sizeof(offsets[0])))
		return -EINVAL;
	return offsets[field];
}

/* --- files, sockets, threads: one system call each ------------------------------------- */

API int tp_open(const char *path, int flags) { return SYS4(NR_openat, -100, path, flags, 0); }
API int tp_close(int fd) { return SYS1(NR_close, fd); }
/* `at` is the offset in the room. */
API int tp_read(int fd, u64 base, u64 room, u32 at, u32 length)
{
	return holds(base, room, at, length) ? SYS3(NR_read, fd, base + at, length) : -EFAULT;
}

API int tp_write(int fd, u64 base, u64 room, u32 at, u32 length)
{
	return holds(base, room, at, length) ? SYS3(NR_write, fd, base + at, length) : -EFAULT;
}

/* Reads into the two struct iovec at `pair`, which are copied first: another thread may write them. */
static int read_pair(int fd, u64 base, u64 room, u64 pair)
{
	const volatile struct iovec *given = PTR(pair);
	struct iovec two[2];
	for (int i = 0; i < 2; i++) {
		two[i].base = given[i].base;
		two[i].length = given[i].length;
		if (!contains(base, room, two[i].base, two[i].length))
			return -EFAULT;
	}
	return SYS3(NR_readv, fd, two, 2);
}

/*
 * These write the result to memory before they return. A JavaScript thread may end right after the call, and its successor
 * has to know what was read or sent. `at` and `note` are the offsets of the packet and of the result, `pair` that of two
 * struct iovec to read into.
 */
API int tp_read_noted(int fd, u64 base, u64 room, u32 pair, u32 note)
{
	if ((base + note) % 4 || (base + pair) % 8)
		return -EINVAL;
	if (!holds(base, room, note, sizeof(s32)) || !holds(base, room, pair, PAIR_BYTES))
		return -EFAULT;
	return *(volatile s32 *)PTR(base + note) = read_pair(fd, base, room, base + pair);
}

API int tp_write_noted(int fd, u64 base, u64 room, u32 at, u32 length, u32 note)
{
	if ((base + note) % 4)
		return -EINVAL;
	if (!holds(base, room, note, sizeof(s32)) || !holds(base, room, at, length))
		return -EFAULT;
	return *(volatile s32 *)PTR(base + note) = SYS3(NR_write, fd, base + at, length);
}

/* include/uapi/linux/sockios.h, if_tun.h, asm-generic/ioctls.h */
enum {
	SIOC_FIRST = 0x8900,
	SIOC_LAST = 0x89ff,
	FIONBIO = 0x5421,
	IFREQ_BYTES = 40,
};
#define TUNSETIFF 0x400454caU
#define TUNSETOFFLOAD 0x400454d0U
#define TUNSETSTEERINGEBPF 0x800454e0U
#define TUNSETFILTEREBPF 0x800454e1U

/* Bytes that the kernel may touch at the argument, 0 if that is a value, or -EINVAL for a request that is not in use here. */
static int ioctl_bytes(u32 request)
{
	if (request >= SIOC_FIRST && request <= SIOC_LAST)
		return IFREQ_BYTES;
	switch (request) {
	case TUNSETIFF:
		return IFREQ_BYTES;
	case TUNSETSTEERINGEBPF:
	case TUNSETFILTEREBPF:
	case FIONBIO:
		return sizeof(int);
	case TUNSETOFFLOAD:
		return 0;
	default:
		return -EINVAL;
	}
}

API int tp_ioctl(int fd, u32 request, u64 argument, u64 room)
{
	int bytes = ioctl_bytes(request);
	if (bytes < 0)
		return bytes;
	return holds(argument, room, 0, (u64)bytes) ? SYS3(NR_ioctl, fd, request, argument) : -EFAULT;
}

API int tp_eventfd(void) { return SYS2(NR_eventfd2, 0, 02000000 | 04000); }
API int tp_setns(int fd, int kind) { return SYS2(NR_setns, fd, kind); }
API int tp_thread_name(const char *name) { return SYS2(NR_prctl, 15, name); }

API int tp_bpf(int command, u64 attributes, u64 room, u32 size)
{
	return holds(attributes, room, 0, size) ? SYS3(NR_bpf, command, attributes, size) : -EFAULT;
}

API int tp_affinity(int cpu)
{
	u64 mask[16];
	if (cpu < 0 || cpu >= 1024)
		return -EINVAL;
	memset(mask, 0, sizeof(mask));
	mask[cpu / 64] = 1ULL << (cpu % 64);
	int ret = SYS3(NR_sched_setaffinity, 0, sizeof(mask), mask);
	return ret < 0 ? ret : 0;
}

API int tp_socket(int domain, int type, int protocol) { return SYS3(NR_socket, domain, type, protocol); }

API int tp_bind(int fd, u64 name, u64 room, u32 length)
{
	return holds(name, room, 0, length) ? SYS3(NR_bind, fd, name, length) : -EFAULT;
}

API int tp_connect(int fd, u64 name, u64 room, u32 length)
{
	return holds(name, room, 0, length) ? SYS3(NR_connect, fd, name, length) : -EFAULT;
}

API int tp_send(int fd, u64 at, u64 room, u32 length, int flags)
{
	return holds(at, room, 0, length) ? SYS6(NR_sendto, fd, at, length, flags, 0, 0) : -EFAULT;
}

API int tp_recv(int fd, u64 at, u64 room, u32 length, int flags)
{
	return holds(at, room, 0, length) ? SYS6(NR_recvfrom, fd, at, length, flags, 0, 0) : -EFAULT;
}

enum { MMSGHDR_BYTES = 64, POLLFD_BYTES = 8 };

API int tp_sendmmsg(int fd, u64 messages, u64 room, u32 count, int flags)
{
	int fault = array_fault(messages, room, count, MMSGHDR_BYTES, 8);
	return fault ? fault : SYS4(NR_sendmmsg, fd, messages, count, flags);
}

API int tp_recvmmsg(int fd, u64 messages, u64 room, u32 count, int flags)
{
	int fault = array_fault(messages, room, count, MMSGHDR_BYTES, 8);
	return fault ? fault : SYS5(NR_recvmmsg, fd, messages, count, flags, 0);
}

API int tp_setsockopt(int fd, int level, int option, u64 value, u64 room, u32 length)
{
	return holds(value, room, 0, length) ? SYS5(NR_setsockopt, fd, level, option, value, length) : -EFAULT;
}

static int get_option(int fd, int level, int option, void *value, u32 room)
{
	u32 length = room;
	int ret = SYS5(NR_getsockopt, fd, level, option, value, &length);
	return ret < 0 ? ret : (int)length;
}

/* The option's length, or a negative errno. */
API int tp_getsockopt(int fd, int level, int option, u64 value, u64 room, u32 length)
{
	return holds(value, room, 0, length) ? get_option(fd, level, option, PTR(value), length) : -EFAULT;
}

static int poll_for(u64 pollfds, u64 room, u32 count, s64 nanos)
{
	struct timespec timeout = { 0, nanos };
	int ret = array_fault(pollfds, room, count, POLLFD_BYTES, 4);
	if (!ret)
		ret = SYS5(NR_ppoll, pollfds, count, &timeout, 0, 8);
	return ret == -EINTR ? 0 : ret;
}

/* Waits at most 50 ms: a worker must check its stop word. 0 on EINTR. */
API int tp_poll(u64 pollfds, u64 room, u32 count, int millis)
{
	if (millis < 0 || millis > POLL_LIMIT_MILLIS)
		millis = POLL_LIMIT_MILLIS;
	return poll_for(pollfds, room, count, (s64)millis * 1000000);
}

/* The same in microseconds, plus the kernel's timer slack: 50 us by default. */
API int tp_poll_micros(u64 pollfds, u64 room, u32 count, u32 micros)
{
	if (micros > POLL_LIMIT_MILLIS * 1000)
		micros = POLL_LIMIT_MILLIS * 1000;
	return poll_for(pollfds, room, count, (s64)micros * 1000);
}

/* The process's libc, if any: no system call, an eighth of the time. */
extern int clock_gettime(int clock, struct timespec *now) __attribute__((weak, visibility("default")));

/* CLOCK_MONOTONIC in milliseconds, modulo 2^31: V8 allocates no object for an integer of 31 bits. */
API int tp_millis(void)
{
	struct timespec now = { 0, 0 };
	if (!clock_gettime || clock_gettime(1, &now) != 0)
		SYS2(NR_clock_gettime, 1, &now);
	return (int)((now.seconds * 1000 + now.nanos / 1000000) & 0x7fffffff);
}

/* --- pages of the shared memory -------------------------------------------------------- */

enum { PROT_RW = 3, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANON = 0x20, MAP_POPULATE = 0x8000 };

static int mapped(long ret) { return ret < 0 && ret > -4096 ? (int)ret : 0; }

/* 0, or why these pages may not be replaced. Pages are of 4096 bytes or more; the kernel refuses what larger ones forbid. */
static int pages_fault(u64 base, u64 room, u64 at, u64 length)
{
	if (at % PAGE || length == 0)
		return -EINVAL;
	/* mmap rounds the length up to whole pages. */
	return contains(base, room, at, (length + PAGE - 1) / PAGE * PAGE) ? 0 : -EFAULT;
}

static int map_over(u64 at, u64 length, int fd, u64 offset)
{
	return mapped(LONG6(NR_mmap, at, length, PROT_RW, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, offset));
}

/* Replaces the pages of a ring by anonymous pages: only this releases an AF_XDP queue. */
static int unmap_over(u64 at, u64 length)
{
	return mapped(LONG6(NR_mmap, at, length, PROT_RW, MAP_PRIVATE | MAP_FIXED | MAP_ANON, -1, 0));
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

static int xsk_fail(struct tp_xsk *x, u32 step, int error)
{
	x->step = step;
	xsk_unmap(x);
	if (x->fd >= 0)
		SYS1(NR_close, x->fd);
	x->fd = -1;
	return error;
}

/* 0, or what is wrong with the addresses of a request. */
static int xsk_fault(const struct tp_xsk *x, u64 base, u64 room)
{
	if (x->umem_len && x->umem_addr % PAGE)
		return -EINVAL;
	if (x->umem_len && !contains(base, room, x->umem_addr, x->umem_len))
		return -EFAULT;
	for (int i = 0; i < TP_RINGS; i++) {
		int fault = pages_fault(base, room, x->ring_addr[i], x->ring_room[i]);
		if (fault)
			return fault;
	}
	return 0;
}

/*
 * Opens a socket, registers the UMEM if it has a length, and maps all four rings. Does not bind. Returns the descriptor.
 * `bytes` is the room of the request; frames and rings are inside the `room` at `base`.
 */
API int tp_xsk_open(u64 request, u64 bytes, u64 base, u64 room)
{
	static const u16 option[TP_RINGS] = { XDP_UMEM_FILL_RING, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_COMPLETION_RING };
	static const u64 pgoff[TP_RINGS] = { 0x100000000ULL, 0, 0x80000000ULL, 0x180000000ULL };
	struct tp_xsk *x = PTR(request);
	struct xdp_umem_reg umem;
	struct xdp_mmap_offsets offsets;
	int ret = array_fault(request, bytes, 1, sizeof(*x), 8);

	if (ret)
		return ret;
	x->step = 0;
	x->fd = -1;
	for (int i = 0; i < TP_RINGS; i++)
		x->ring[i].mapped = 0;
	ret = xsk_fault(x, base, room);
	if (ret)
		return xsk_fail(x, TP_STEP_REQUEST, ret);
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

	ret = get_option(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, sizeof(offsets));
	if (ret != (int)sizeof(offsets)) /* before 5.4: no flags, no need_wakeup */
		return xsk_fail(x, TP_STEP_OFFSETS, ret < 0 ? ret : -EOPNOTSUPP);

	const struct xdp_ring_offset *where[TP_RINGS] = { &offsets.fr, &offsets.rx, &offsets.tx, &offsets.cr };
	for (int i = 0; i < TP_RINGS; i++) {
		u64 stride = i == TP_RX || i == TP_TX ? 16 : 8;
		u64 length = where[i]->desc + x->ring_entries[i] * stride;
		if (length > x->ring_room[i])
			return xsk_fail(x, TP_STEP_ROOM, -ENOSPC);
		ret = map_over(x->ring_addr[i], length, x->fd, pgoff[i]);
		if (ret < 0)
			return xsk_fail(x, TP_STEP_MAP, ret);
		x->ring[i].producer = (u32)where[i]->producer;
		x->ring[i].consumer = (u32)where[i]->consumer;
		x->ring[i].flags = (u32)where[i]->flags;
		x->ring[i].desc = (u32)where[i]->desc;
		x->ring[i].mapped = (u32)length;
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
API int tp_xsk_close(u64 request, u64 bytes, u64 base, u64 room)
{
	struct tp_xsk *x = PTR(request);
	int fault = array_fault(request, bytes, 1, sizeof(*x), 8);
	if (fault)
		return fault;
	for (int i = 0; i < TP_RINGS; i++) {
		if (!x->ring[i].mapped)
			continue;
		fault = pages_fault(base, room, x->ring_addr[i], x->ring[i].mapped);
		if (fault)
			return fault;
	}
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

enum { SQE_BYTES = 64, CQE_BYTES = 16 };
/* Before the completions, struct io_rings has 320 bytes on Linux 6.1 to 6.18. A kernel that needs more is refused. */
enum { RINGS_HEAD = 512 };

/* 0, or what is wrong with a request. The kernel takes the sizes from the entries, and does not know the rooms. */
static int uring_fault(const struct tp_uring *u, u64 base, u64 room)
{
	u32 sq = u->sq_entries, cq = u->cq_entries;
	int fault = pages_fault(base, room, u->rings_addr, u->rings_room);
	if (!fault)
		fault = pages_fault(base, room, u->sqes_addr, u->sqes_room);
	if (fault)
		return fault;
	if (!sq || !cq || sq & (sq - 1) || cq & (cq - 1)) /* the kernel rounds up */
		return -EINVAL;
	if ((u64)sq * SQE_BYTES > u->sqes_room || RINGS_HEAD + (u64)cq * CQE_BYTES > u->rings_room)
		return -ENOSPC;
	return contains(base, room, u->frames_addr, u->frames_bytes) ? 0 : -EFAULT;
}

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
 *
 * `bytes` is the room of the request; rings and frames are inside the `room` at `base`.
 */
API int tp_uring_open(u64 request, u64 bytes, u64 base, u64 room)
{
	struct tp_uring *u = PTR(request);
	struct io_uring_params p;
	int ret = array_fault(request, bytes, 1, sizeof(*u), 8);

	if (ret)
		return ret;
	struct iovec frames = { u->frames_addr, u->frames_bytes };
	u->fd = -1;
	u->registered = 0;
	u->step = TP_STEP_REQUEST;
	ret = uring_fault(u, base, room);
	if (ret)
		return ret;
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

/* 0, or why a span is not inside of the room. */
static int span_fault(u64 base, u64 room, u32 offset, s32 length)
{
	if (length < 0)
		return -EINVAL;
	return holds(base, room, offset, (u64)length) ? 0 : -EFAULT;
}

/*
 * Reads packets until the queue is empty. Returns the number of packets. A burst stops at a span outside of the room,
 * which is an error if it is the first. `spans_room` is the bytes of the array of spans.
 */
API int tp_read_burst(int fd, u64 base, u64 room, u64 spans, u64 spans_room, u32 count)
{
	struct tp_span *span = PTR(spans);
	int fault = array_fault(spans, spans_room, count, sizeof(*span), 4);
	if (fault)
		return fault;
	u32 done = 0;
	while (done < count) {
		u32 offset = span[done].offset;
		s32 length = span[done].length;
		int ret = span_fault(base, room, offset, length);
		if (!ret)
			ret = SYS3(NR_read, fd, base + offset, length);
		if (ret < 0)
			return done || ret == -EAGAIN ? (int)done : ret;
		span[done++].length = ret;
	}
	return (int)done;
}

/*
 * The same into pairs of struct iovec, which are at base + pairs: packet i into pair i, its length into lengths[i]. The
 * buffers of a pair are inside the room too.
 */
API int tp_read_pairs(int fd, u64 base, u64 room, u32 pairs, u64 lengths, u64 lengths_room, u32 count)
{
	u32 *length = PTR(lengths);
	u64 pair = base + pairs;
	int fault = array_fault(lengths, lengths_room, count, sizeof(*length), 4);
	if (!fault && pair % 8)
		fault = -EINVAL;
	if (!fault && !holds(base, room, pairs, count * PAIR_BYTES))
		fault = -EFAULT;
	if (fault)
		return fault;
	for (u32 done = 0; done < count; done++) {
		int ret = read_pair(fd, base, room, pair + done * PAIR_BYTES);
		if (ret < 0)
			return done || ret == -EAGAIN ? (int)done : ret;
		length[done] = (u32)ret;
	}
	return (int)count;
}

/* Writes packets in order, up to the first refusal. Returns the number of packets written. */
API int tp_write_burst(int fd, u64 base, u64 room, u64 spans, u64 spans_room, u32 count)
{
	struct tp_span *span = PTR(spans);
	int fault = array_fault(spans, spans_room, count, sizeof(*span), 4);
	if (fault)
		return fault;
	u32 done = 0;
	while (done < count) {
		u32 offset = span[done].offset;
		s32 length = span[done].length;
		int ret = span_fault(base, room, offset, length);
		if (!ret)
			ret = SYS3(NR_write, fd, base + offset, length);
		if (ret < 0)
			return done ? (int)done : ret;
		done++;
	}
	return (int)done;
}

enum { CHAIN_LIMIT = 64 };

/* Writes the packet whose pieces are the next `count` spans. 0 or more, or a negative errno. */
static int write_chain(int fd, u64 base, u64 room, const struct tp_span *span, u32 count)
{
	struct iovec pieces[CHAIN_LIMIT];
	for (u32 i = 0; i < count; i++) {
		u32 offset = span[i].offset;
		s32 length = span[i].length;
		int fault = span_fault(base, room, offset, length);
		if (fault)
			return fault;
		pieces[i].base = base + offset;
		pieces[i].length = (u64)length;
	}
	return SYS3(NR_writev, fd, pieces, count);
}

/*
 * Writes packets made of pieces, in order: packet i is the next counts[i] spans (1 to 64), one
 * writev. Stops at the first refusal, or at a count out of range. Returns the number of packets written.
 */
API int tp_write_chains(int fd, u64 base, u64 room, u64 spans, u64 spans_room, u64 counts, u64 counts_room, u32 chains)
{
	struct tp_span *span = PTR(spans);
	u32 *count = PTR(counts);
	u64 left = spans_room / sizeof(*span);
	int fault = array_fault(counts, counts_room, chains, sizeof(*count), 4);
	if (!fault)
		fault = array_fault(spans, spans_room, chains ? 1 : 0, sizeof(*span), 4);
	if (fault)
		return fault;
	for (u32 done = 0; done < chains; done++) {
		u32 pieces = count[done];
		int ret = -EINVAL;
		if (pieces >= 1 && pieces <= CHAIN_LIMIT)
			ret = pieces <= left ? write_chain(fd, base, room, span, pieces) : -EFAULT;
		if (ret < 0)
			return done ? (int)done : ret;
		span += pieces;
		left -= pieces;
	}
	return (int)chains;
}
