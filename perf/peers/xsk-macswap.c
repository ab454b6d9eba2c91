/*
 * A macswap loop over AF_XDP in C: what the kernel's rings cost with as little as possible around them.
 *
 *     xsk-macswap CPU SECONDS BURST PACKETS DEVICE...
 *
 * One thread on one CPU; for each device one socket on queue 0 with its own UMEM, native XDP, copy mode. Sends PACKETS
 * frames through each device at the start, and from then on sends back what it receives: through the two ends of a veth
 * pair they circulate for ever.
 *
 * After a warm-up of a quarter of SECONDS it counts for SECONDS, and prints how many packets it received a second. Plain
 * system calls; numbers of include/uapi/linux.
 */
#include "xsk.h"

enum { BYTES = 60, MAX = 8 };

static uint32_t poll_port(struct port *p, uint32_t burst)
{
	struct ring *rx = &p->rx, *tx = &p->tx;
	uint32_t count = ready(p, burst);
	const struct xdp_desc *in = rx->slots;
	struct xdp_desc *out = tx->slots;
	for (uint32_t i = 0; i < count; i++) {
		const struct xdp_desc *from = &in[rx->cursor++ & (ENTRIES - 1)];
		exchange_macs(p->frames + from->addr);
		out[tx->cursor++ & (ENTRIES - 1)] = (struct xdp_desc){ .addr = from->addr, .len = from->len };
	}
	if (count > 0) {
		__atomic_store_n(rx->consumer, rx->cursor, __ATOMIC_RELEASE);
		__atomic_store_n(tx->producer, tx->cursor, __ATOMIC_RELEASE);
	}
	if (count > 0 || p->unsent > 0)
		kick(p);
	recycle(p);
	p->received += count;
	return count;
}

/* Frames of the upper half, which are in no ring at first. */
static void inject(struct port *p, uint32_t packets)
{
	static const uint8_t header[14] = { 2, 0x15, 0x5d, 0x77, 0, 2, 2, 0x15, 0x5d, 0x77, 0, 1, 0x88, 0xb5 };
	for (uint32_t i = 0; i < packets; i++) {
		uint64_t address = (uint64_t)(ENTRIES + i) * FRAME + 256;
		memset(p->frames + address, 0, BYTES);
		memcpy(p->frames + address, header, sizeof(header));
		((struct xdp_desc *)p->tx.slots)[p->tx.cursor++ & (ENTRIES - 1)] = (struct xdp_desc){ .addr = address, .len = BYTES };
	}
	__atomic_store_n(p->tx.producer, p->tx.cursor, __ATOMIC_RELEASE);
	kick(p);
}

static uint64_t total(const struct port *ports, int count)
{
	uint64_t sum = 0;
	for (int i = 0; i < count; i++)
		sum += ports[i].received;
	return sum;
}

int main(int argc, char **argv)
{
	if (argc < 6 || argc > 5 + MAX)
		return usage("CPU SECONDS BURST PACKETS DEVICE...");
	static struct port ports[MAX];
	double seconds = atof(argv[2]);
	uint32_t burst = atoi(argv[3]), packets = atoi(argv[4]);
	int count = argc - 5;
	run_on(atoi(argv[1]));
	prctl(PR_SET_PDEATHSIG, 15);
	for (int i = 0; i < count; i++)
		openPort(&ports[i], argv[5 + i]);
	for (int i = 0; i < count; i++)
		inject(&ports[i], packets);

	double began = nanos(CLOCK_MONOTONIC) * 1e-9, from = 0;
	uint64_t before = 0;
	for (uint32_t round = 0;; round++) {
		for (int i = 0; i < count; i++)
			poll_port(&ports[i], burst);
		if (round % 64)
			continue;
		double at = nanos(CLOCK_MONOTONIC) * 1e-9;
		if (from == 0 && at - began > seconds / 4) {
			from = at;
			before = total(ports, count);
		}
		if (from != 0 && at - from > seconds) {
			printf("%.0f\n", (total(ports, count) - before) / (at - from));
			return 0;
		}
	}
}
