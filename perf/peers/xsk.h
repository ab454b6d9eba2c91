/*
 * An AF_XDP socket on queue 0 of a device, for the programs in C that measure what the kernel's rings cost: its own UMEM, native XDP,
 * copy mode. Plain system calls; numbers of include/uapi/linux.
 */
#include "peer.h"
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

enum { ENTRIES = 2048, FRAMES = 4096, FRAME = 2048 };

struct ring {
	uint32_t *producer, *consumer;
	void *slots;
	uint32_t cursor, seen; /* ours, and the other side's as of the last look */
};

struct port {
	int fd, link;
	uint8_t *frames;
	struct ring fill, rx, tx, completion;
	uint64_t received;
	uint32_t unsent;
};

/* The program: to the socket of the packet's queue, and to the kernel where there is none. */
static inline int attach(int ifindex, int fd)
{
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	int mapFd = check(bpf(BPF_MAP_CREATE, &map), "bpf(MAP_CREATE)");
	const struct bpf_insn code[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 16 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = mapFd },
		{ 0 },
		MOVE(3, XDP_PASS),
		CALL(BPF_FUNC_redirect_map),
		EXIT,
	};
	int program = load(BPF_PROG_TYPE_XDP, code, sizeof(code) / sizeof(code[0]));
	union bpf_attr link = {
		.link_create = {
			.prog_fd = program,
			.target_ifindex = ifindex,
			.attach_type = BPF_XDP,
			.flags = XDP_FLAGS_DRV_MODE,
		},
	};
	int linkFd = check(bpf(BPF_LINK_CREATE, &link), "bpf(LINK_CREATE)");
	uint32_t key = 0;
	union bpf_attr update = { .map_fd = mapFd, .key = (uint64_t)&key, .value = (uint64_t)&fd };
	check(bpf(BPF_MAP_UPDATE_ELEM, &update), "bpf(MAP_UPDATE_ELEM)");
	return linkFd;
}

static inline void map(struct ring *ring, int fd, off_t at, const struct xdp_ring_offset *offset, size_t slot)
{
	size_t bytes = offset->desc + ENTRIES * slot;
	uint8_t *base = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, at);
	if (base == MAP_FAILED)
		check(-1, "mmap");
	ring->producer = (uint32_t *)(base + offset->producer);
	ring->consumer = (uint32_t *)(base + offset->consumer);
	ring->slots = base + offset->desc;
}

static inline void option(int fd, int name, int value, const char *what)
{
	check(setsockopt(fd, SOL_XDP, name, &value, sizeof(value)), what);
}

static inline void openPort(struct port *p, const char *device)
{
	memset(p, 0, sizeof(*p));
	p->fd = check(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), "socket(AF_XDP)");
	p->frames = mmap(0, (size_t)FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p->frames == MAP_FAILED)
		check(-1, "mmap of the frames");
	struct xdp_umem_reg umem = { .addr = (uint64_t)p->frames, .len = (uint64_t)FRAMES * FRAME, .chunk_size = FRAME };
	check(setsockopt(p->fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof(umem)), "XDP_UMEM_REG");
	option(p->fd, XDP_UMEM_FILL_RING, ENTRIES, "XDP_UMEM_FILL_RING");
	option(p->fd, XDP_UMEM_COMPLETION_RING, ENTRIES, "XDP_UMEM_COMPLETION_RING");
	option(p->fd, XDP_RX_RING, ENTRIES, "XDP_RX_RING");
	option(p->fd, XDP_TX_RING, ENTRIES, "XDP_TX_RING");
	int budget = ENTRIES; /* kernels before 6.17 refuse, and send 32 a call */
	setsockopt(p->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
	struct xdp_mmap_offsets offsets;
	socklen_t length = sizeof(offsets);
	check(getsockopt(p->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length), "XDP_MMAP_OFFSETS");
	map(&p->fill, p->fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, 8);
	map(&p->completion, p->fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, 8);
	map(&p->rx, p->fd, XDP_PGOFF_RX_RING, &offsets.rx, 16);
	map(&p->tx, p->fd, XDP_PGOFF_TX_RING, &offsets.tx, 16);
	int ifindex = device_index(device);
	struct sockaddr_xdp name = { .sxdp_family = AF_XDP, .sxdp_ifindex = ifindex };
	name.sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
	check(bind(p->fd, (struct sockaddr *)&name, sizeof(name)), "bind(AF_XDP)");
	for (uint32_t i = 0; i < ENTRIES; i++)
		((uint64_t *)p->fill.slots)[i] = (uint64_t)i * FRAME;
	p->fill.cursor = ENTRIES;
	__atomic_store_n(p->fill.producer, ENTRIES, __ATOMIC_RELEASE);
	p->link = attach(ifindex, p->fd);
}

/* Has the kernel send what is in the ring. */
static inline void kick(struct port *p)
{
	if (sendto(p->fd, 0, 0, MSG_DONTWAIT, 0, 0) < 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS)
		check(-1, "sendto(AF_XDP)");
	p->unsent = p->tx.cursor - __atomic_load_n(p->tx.consumer, __ATOMIC_ACQUIRE);
}

/* What was sent is free again, and goes into the fill ring: at most as many as came out of it. */
static inline void recycle(struct port *p)
{
	struct ring *from = &p->completion, *to = &p->fill;
	uint32_t count = __atomic_load_n(from->producer, __ATOMIC_ACQUIRE) - from->cursor;
	if (count == 0)
		return;
	const uint64_t *in = from->slots;
	uint64_t *out = to->slots;
	uint32_t room = ENTRIES - (to->cursor - __atomic_load_n(to->consumer, __ATOMIC_ACQUIRE));
	for (uint32_t i = 0; i < count; i++) {
		uint64_t frame = in[from->cursor++ & (ENTRIES - 1)] & ~(uint64_t)(FRAME - 1);
		if (i < room)
			out[to->cursor++ & (ENTRIES - 1)] = frame;
	}
	__atomic_store_n(from->consumer, from->cursor, __ATOMIC_RELEASE);
	__atomic_store_n(to->producer, to->cursor, __ATOMIC_RELEASE);
}

/* How many received frames are there, and as many as fit the transmit ring: `burst` at most. */
static inline uint32_t ready(struct port *p, uint32_t burst)
{
	struct ring *rx = &p->rx, *tx = &p->tx;
	if (rx->seen - rx->cursor < burst)
		rx->seen = __atomic_load_n(rx->producer, __ATOMIC_ACQUIRE);
	uint32_t count = rx->seen - rx->cursor;
	if (count > burst)
		count = burst;
	uint32_t room = ENTRIES - (tx->cursor - tx->seen);
	if (room < count) {
		tx->seen = __atomic_load_n(tx->consumer, __ATOMIC_ACQUIRE);
		room = ENTRIES - (tx->cursor - tx->seen);
		if (room < count)
			count = room;
	}
	return count;
}
