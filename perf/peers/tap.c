/*
 * Taps as C programs drive them, and packets for taps.
 *
 *     tap CPU TAP echo|receive                   drives a tap: a peer of ours
 *     tap CPU TAP once COUNT                     so many packets, for a loop in which they circulate
 *     tap CPU TAP drain READER_CPU MILLIS        fills the tap and times how long its reader takes, again and again
 *     tap CPU TAP keep [NAMESPACE IFINDEX]       keeps packets waiting in the tap, until standard input ends
 *
 * `echo` and `receive` make the tap, with the flags that Twinpath's have, and run until standard input ends: non-blocking
 * reads until the queue is empty or 64 packets are there, and one write for each packet that goes back, its MAC addresses
 * exchanged. One core, one thread, no sleep.
 *
 * The others make packets inside the kernel. A BPF program that clones a packet to a device is run as a test, so many times a
 * call (BPF_PROG_TEST_RUN): that makes socket buffers several times as fast as a packet socket sends them, so the reader of
 * the tap is what is measured.
 *
 * `drain` fills the tap on the reader's own core, where it preempts the reader (SCHED_FIFO), moves to CPU, and reads the
 * tap's counter until all packets have been read. So the reader works alone, and no generator can be too slow. Prints the
 * packets of a lot and the nanoseconds of the median lot: in some, the scheduler gave the core to another thread for
 * milliseconds.
 *
 * `keep` reads the tap's own counters: the packets under way are those sent, less those read and dropped, and there are never
 * more than WINDOW of them. So no reader waits for this program, and its packets are not dropped either, which would cost the
 * reader. With NAMESPACE and IFINDEX packets leave by that device of that network namespace, which leads to the tap; without,
 * they are given to the tap itself.
 */
#include "peer.h"
#include <linux/if_tun.h>
#include <sys/ioctl.h>

/* A device that hands over to the backlog of its CPU takes 1000 (netdev_max_backlog); a tap holds 500 at least. */
enum { WINDOW = 384, PORTION = 64, BYTES = 64 };
/* What the reader drains at a time: half of what the taps hold that are measured. */
enum { LOT = 2048, LOTS = 65536 };

/* bpf_clone_redirect(packet, ifindex, 0) */
static int clones_to(int ifindex)
{
	const struct bpf_insn code[] = { MOVE(2, ifindex), MOVE(3, 0), CALL(BPF_FUNC_clone_redirect), MOVE(0, 0), EXIT };
	return load(BPF_PROG_TYPE_SCHED_CLS, code, 5);
}

static void send_packets(int program, unsigned count)
{
	/* UDP from 10.77.0.1 to 10.77.0.2, ports 4096 and 9. */
	static const unsigned char packet[BYTES] = {
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17,
		0x66, 0x1f, 10, 77, 0, 1, 10, 77, 0, 2, 0x10, 0, 0, 9, 0, 30, 0, 0,
	};
	union bpf_attr attributes = {
		.test = { .prog_fd = program, .data_in = (uintptr_t)packet, .data_size_in = BYTES, .repeat = count },
	};
	check(bpf(BPF_PROG_TEST_RUN, &attributes), "bpf(PROG_TEST_RUN)");
}

static int counter(const char *device, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", device, name);
	return check(open(path, O_RDONLY | O_CLOEXEC), path);
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

static void drain(int program, int read, int dropped, int cpu, int reader, uint64_t millis)
{
	const struct sched_param first = { .sched_priority = 1 };
	check(sched_setscheduler(0, SCHED_FIFO, &first), "sched_setscheduler");
	const uint64_t lost = value(dropped);
	const uint64_t end = (uint64_t)nanos(CLOCK_MONOTONIC) + millis * 1000000;
	static uint64_t spent[LOTS];
	unsigned lots = 0;
	while ((uint64_t)nanos(CLOCK_MONOTONIC) < end && lots < LOTS) {
		run_on(reader);
		const uint64_t before = value(read);
		send_packets(program, LOT);
		const uint64_t began = (uint64_t)nanos(CLOCK_MONOTONIC);
		run_on(cpu);
		while (value(read) - before < LOT && (uint64_t)nanos(CLOCK_MONOTONIC) < end + 1000000000)
			;
		spent[lots++] = (uint64_t)nanos(CLOCK_MONOTONIC) - began;
	}
	if (value(dropped) != lost) {
		fprintf(stderr, "tap: %llu packets were dropped\n", (unsigned long long)(value(dropped) - lost));
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

/* Of the programs that drive a tap. */
enum { BURST = 64, ROOM = 2048, QUEUE_LENGTH = 4096, ROUNDS = 4096 };

static unsigned char frame[BURST][ROOM];
static ssize_t length[BURST];

static int open_tap(const char *name)
{
	struct ifreq request;
	memset(&request, 0, sizeof(request));
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	int tap = check(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "/dev/net/tun");
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
	check(ioctl(tap, TUNSETIFF, &request), "TUNSETIFF");
	int control = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	request.ifr_qlen = QUEUE_LENGTH;
	check(ioctl(control, SIOCSIFTXQLEN, &request), "SIOCSIFTXQLEN");
	request.ifr_flags = IFF_UP | IFF_NOARP;
	check(ioctl(control, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
	close(control);
	return tap;
}

static void drive(const char *name, int echo)
{
	const int tap = open_tap(name);
	struct pollfd input = { .fd = 0, .events = POLLIN };
	for (unsigned round = 1; round % ROUNDS != 0 || poll(&input, 1, 0) == 0; round++) {
		int packets = 0;
		while (packets < BURST && (length[packets] = read(tap, frame[packets], ROOM)) > 0)
			packets++;
		if (packets < BURST && errno != EAGAIN)
			check(-1, "read");
		for (int i = 0; echo && i < packets; i++) {
			exchange_macs(frame[i]);
			check(write(tap, frame[i], length[i]), "write");
		}
	}
}

int main(int count, char **argument)
{
	if (count < 4)
		return usage("CPU TAP echo | receive | once COUNT | drain READER_CPU MILLIS | keep [NAMESPACE IFINDEX]");
	const char *device = argument[2], *mode = argument[3];
	run_on(atoi(argument[1]));
	if (strcmp(mode, "echo") == 0 || strcmp(mode, "receive") == 0) {
		drive(device, strcmp(mode, "echo") == 0);
		return 0;
	}
	int ifindex = device_index(device);
	if (strcmp(mode, "once") == 0) {
		send_packets(clones_to(ifindex), atoi(argument[4]));
		return 0;
	}
	const int read = counter(device, "tx_packets");
	const int dropped = counter(device, "tx_dropped");
	if (strcmp(mode, "drain") == 0) {
		drain(clones_to(ifindex), read, dropped, atoi(argument[1]), atoi(argument[4]), atoi(argument[5]));
		return 0;
	}
	if (count == 6) {
		char path[64];
		snprintf(path, sizeof(path), "/run/netns/%s", argument[4]);
		check(setns(check(open(path, O_RDONLY | O_CLOEXEC), path), CLONE_NEWNET), "setns");
		ifindex = atoi(argument[5]);
	}
	keep(clones_to(ifindex), read, dropped);
	return 0;
}
