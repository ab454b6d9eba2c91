/*
 * Answers ping and UDP echo over AF_XDP in C: what a round trip through the kernel's rings costs with as little as possible around
 * them. The peer of a port with the handler `echo`, in the benchmark `latency`.
 *
 *     xsk-echo CPU ADDRESS DEVICE [wait]
 *
 * One thread on one CPU and one socket. It looks at the receive ring over and over, as a worker in mode `poll`; with `wait` it sleeps
 * in poll(2) when the ring is empty, as one in mode `interrupt`. It checks what the handler checks of a packet, changes the packet
 * where it is, and has the kernel send it once a burst. What it does not answer goes back to the kernel.
 *
 * Prints `ready` when the socket receives, and runs until it is killed.
 */
#include "xsk.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

enum { BURST = 64, SLEEP_MILLIS = 50, ECHO_PORT = 7, TIME_TO_LIVE = 64, L4_BYTES = 8 };

struct host {
	uint8_t mac[6];
	uint32_t address; /* big-endian */
};

static uint16_t sum_of(const uint16_t *words, int count)
{
	uint32_t sum = 0;
	for (int i = 0; i < count; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

/* The checksum after a 16-bit word has changed: RFC 1624, equation 3. All three as they are in the packet. */
static uint16_t updated(uint16_t checksum, uint16_t before, uint16_t after)
{
	uint32_t sum = (uint16_t)~checksum + (uint16_t)~before + after;
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static int echo_icmp(uint8_t *l4)
{
	struct icmphdr *icmp = (struct icmphdr *)l4;
	if (icmp->type != ICMP_ECHO || icmp->code != 0)
		return 0;
	icmp->type = ICMP_ECHOREPLY;
	icmp->checksum = updated(icmp->checksum, htons(ICMP_ECHO << 8), 0);
	return 1;
}

/* Exchanges the ports, which does not change the checksum. */
static int echo_udp(uint8_t *l4, uint32_t room)
{
	struct udphdr *udp = (struct udphdr *)l4;
	uint16_t from = udp->source, bytes = ntohs(udp->len);
	if (udp->dest != htons(ECHO_PORT) || ntohs(from) < 1024 || bytes < L4_BYTES || bytes > room)
		return 0;
	udp->source = udp->dest;
	udp->dest = from;
	return 1;
}

/* Makes the answer of a packet. Returns whether there is one. */
static int answer(uint8_t *packet, uint32_t length, const struct host *host)
{
	struct ethhdr *ethernet = (struct ethhdr *)packet;
	struct iphdr *ip = (struct iphdr *)(packet + ETH_HLEN);
	if (length < ETH_HLEN + sizeof(*ip) + L4_BYTES || ethernet->h_proto != htons(ETH_P_IP))
		return 0;
	if (memcmp(ethernet->h_dest, host->mac, 6) != 0 || (ethernet->h_source[0] & 1) != 0)
		return 0;
	uint32_t total = ntohs(ip->tot_len);
	if (*(uint8_t *)ip != 0x45 || total < sizeof(*ip) + L4_BYTES || total > length - ETH_HLEN)
		return 0;
	if ((ntohs(ip->frag_off) & 0x3fff) != 0 || ip->daddr != host->address || ip->saddr == host->address)
		return 0;
	if (sum_of((const uint16_t *)ip, sizeof(*ip) / 2) != 0xffff)
		return 0;
	uint8_t *l4 = (uint8_t *)(ip + 1);
	if (ip->protocol == IPPROTO_ICMP ? !echo_icmp(l4) : ip->protocol != IPPROTO_UDP || !echo_udp(l4, total - sizeof(*ip)))
		return 0;
	uint16_t before, after;
	memcpy(&before, &ip->ttl, 2);
	ip->daddr = ip->saddr;
	ip->saddr = host->address;
	ip->ttl = TIME_TO_LIVE;
	memcpy(&after, &ip->ttl, 2);
	ip->check = updated(ip->check, before, after);
	exchange_macs(packet);
	return 1;
}

/* Answers a burst. Returns how many packets there were. */
static uint32_t round_of(struct port *p, const struct host *host)
{
	struct ring *rx = &p->rx, *tx = &p->tx, *fill = &p->fill;
	uint32_t count = ready(p, BURST), answers = 0;
	const struct xdp_desc *in = rx->slots;
	for (uint32_t i = 0; i < count; i++) {
		const struct xdp_desc *from = &in[rx->cursor++ & (ENTRIES - 1)];
		if (answer(p->frames + from->addr, from->len, host)) {
			struct xdp_desc to = { .addr = from->addr, .len = from->len };
			((struct xdp_desc *)tx->slots)[tx->cursor++ & (ENTRIES - 1)] = to;
			answers++;
		} else {
			((uint64_t *)fill->slots)[fill->cursor++ & (ENTRIES - 1)] = from->addr & ~(uint64_t)(FRAME - 1);
		}
	}
	if (count > 0)
		__atomic_store_n(rx->consumer, rx->cursor, __ATOMIC_RELEASE);
	if (count > answers)
		__atomic_store_n(fill->producer, fill->cursor, __ATOMIC_RELEASE);
	if (answers > 0)
		__atomic_store_n(tx->producer, tx->cursor, __ATOMIC_RELEASE);
	if (answers > 0 || p->unsent > 0)
		kick(p);
	recycle(p);
	return count;
}

static void mac_of(const char *device, uint8_t mac[6])
{
	struct ifreq request = { 0 };
	int fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	check(ioctl(fd, SIOCGIFHWADDR, &request), "ioctl(SIOCGIFHWADDR)");
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
}

int main(int count, char **args)
{
	if (count < 4)
		return usage("CPU ADDRESS DEVICE [wait]");
	static struct port port;
	struct host host;
	int waits = count > 4;
	run_on(atoi(args[1]));
	prctl(PR_SET_PDEATHSIG, 15);
	check(inet_pton(AF_INET, args[2], &host.address) - 1, args[2]);
	openPort(&port, args[3]);
	mac_of(args[3], host.mac);
	puts("ready");
	fflush(stdout);
	struct pollfd sleeper = { .fd = port.fd, .events = POLLIN };
	for (;;) {
		/* A worker looks twice before it sleeps, too. */
		if (round_of(&port, &host) > 0 || !waits || round_of(&port, &host) > 0 || port.unsent > 0)
			continue;
		if (poll(&sleeper, 1, SLEEP_MILLIS) < 0 && errno != EINTR)
			check(-1, "poll");
	}
}
