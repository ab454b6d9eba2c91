/*
 * The kernel's side of a tap: packets for it, made inside the kernel. A BPF program that clones a packet to a device
 * is run as a test, so many times a call (BPF_PROG_TEST_RUN), which makes sk_buffs several times as fast as a packet
 * socket sends them: the reader of the tap is what is measured.
 *
 *     tap-feed CPU TAP once COUNT                so many packets, for a loop in which they circulate
 *     tap-feed CPU TAP drain READER_CPU MILLIS   fills the tap and times how long its reader takes, again and again
 *     tap-feed CPU TAP keep [NAMESPACE IFINDEX]  keeps packets waiting in the tap, until standard input ends
 *
 * `drain` fills the tap on the reader's own core, where it preempts the reader (SCHED_FIFO), moves to CPU, and looks
 * at the tap's counter until all has been read. So nobody else works while the reader does, and no generator can be
 * too slow. Prints the packets of a lot, and the nanoseconds of the median one: in some the scheduler gave the core
 * to somebody else for milliseconds.
 *
 * `keep` looks at the tap's own counters: those that are underway are those sent, less those read and dropped, and
 * there are never more than WINDOW of them. So nobody waits for this program, and its packets are not dropped
 * either, of which the reader would feel the cost. With NAMESPACE and IFINDEX packets leave by that device of that
 * network namespace, which leads to the tap; without, they are given to the tap itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A device that hands over to the backlog of its CPU takes 1000 (netdev_max_backlog); a tap holds 500 at least. */
enum { WINDOW = 384, PORTION = 64, BYTES = 64 };
/* What the reader drains at a time: half of what the taps hold that are measured. */
enum { LOT = 2048, LOTS = 65536 };

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "tap-feed: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

/* bpf_clone_redirect(packet, ifindex, 0) */
static int load(int ifindex)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = ifindex },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_clone_redirect },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attributes;
	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	attributes.insn_cnt = sizeof(code) / sizeof(code[0]);
	attributes.insns = (uintptr_t)code;
	attributes.license = (uintptr_t) "Apache-2.0";
	int program = bpf(BPF_PROG_LOAD, &attributes);
	check(program, "bpf(PROG_LOAD)");
	return program;
}

static void send_packets(int program, unsigned count)
{
	/* UDP from 10.77.0.1 to 10.77.0.2, ports 4096 and 9. */
	static const unsigned char packet[BYTES] = {
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17,
		0x66, 0x1f, 10, 77, 0, 1, 10, 77, 0, 2, 0x10, 0, 0, 9, 0, 30, 0, 0,
	};
	union bpf_attr attributes;
	memset(&attributes, 0, sizeof(attributes));
	attributes.test.prog_fd = program;
	attributes.test.data_in = (uintptr_t)packet;
	attributes.test.data_size_in = sizeof(packet);
	attributes.test.repeat = count;
	check(bpf(BPF_PROG_TEST_RUN, &attributes), "bpf(PROG_TEST_RUN)");
}

static int counter(const char *device, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", device, name);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	check(file, path);
	return file;
}

static uint64_t value(int file)
{
	char text[32];
	ssize_t length = pread(file, text, sizeof(text) - 1, 0);
	if (length < 0) /* the tap has gone */
		exit(0);
	text[length] = 0;
	return strtoull(text, NULL, 10);
}

static void run_on(int cpu)
{
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	check(sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
}

static uint64_t nanos(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

static void drain(int program, int read, int dropped, int cpu, int reader, uint64_t millis)
{
	const struct sched_param first = { .sched_priority = 1 };
	check(sched_setscheduler(0, SCHED_FIFO, &first), "sched_setscheduler");
	const uint64_t lost = value(dropped);
	const uint64_t end = nanos() + millis * 1000000;
	static uint64_t spent[LOTS];
	unsigned lots = 0;
	while (nanos() < end && lots < LOTS) {
		run_on(reader);
		const uint64_t before = value(read);
		send_packets(program, LOT);
		const uint64_t began = nanos();
		run_on(cpu);
		while (value(read) - before < LOT && nanos() < end + 1000000000)
			;
		spent[lots++] = nanos() - began;
	}
	if (value(dropped) != lost) {
		fprintf(stderr, "tap-feed: the tap dropped %llu packets\n", (unsigned long long)(value(dropped) - lost));
		exit(1);
	}
	qsort(spent, lots, sizeof(spent[0]), by_size);
	printf("%d %llu\n", LOT, (unsigned long long)spent[lots / 2]);
}

static void keep(int program, int read, int dropped)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	const uint64_t before = value(read) + value(dropped);
	uint64_t sent = 0;
	while (poll(&input, 1, 0) == 0) {
		const uint64_t gone = value(read) + value(dropped) - before;
		for (; sent - gone < WINDOW; sent += PORTION)
			send_packets(program, PORTION);
	}
}

int main(int count, char **argument)
{
	if (count < 4) {
		fprintf(stderr, "tap-feed CPU TAP once COUNT | drain READER_CPU MILLIS | keep [NAMESPACE IFINDEX]\n");
		return 2;
	}
	run_on(atoi(argument[1]));
	int ifindex = if_nametoindex(argument[2]);
	check(ifindex > 0 ? 0 : -1, argument[2]);
	if (strcmp(argument[3], "once") == 0) {
		send_packets(load(ifindex), atoi(argument[4]));
		return 0;
	}
	const int read = counter(argument[2], "tx_packets");
	const int dropped = counter(argument[2], "tx_dropped");
	if (strcmp(argument[3], "drain") == 0) {
		drain(load(ifindex), read, dropped, atoi(argument[1]), atoi(argument[4]), atoi(argument[5]));
		return 0;
	}
	if (count == 6) {
		char path[64];
		snprintf(path, sizeof(path), "/run/netns/%s", argument[4]);
		int space = open(path, O_RDONLY | O_CLOEXEC);
		check(space, path);
		check(setns(space, CLONE_NEWNET), "setns");
		ifindex = atoi(argument[5]);
	}
	keep(load(ifindex), read, dropped);
	return 0;
}
