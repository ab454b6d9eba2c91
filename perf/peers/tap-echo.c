/*
 * A tap queue driven as C programs drive one: non-blocking reads until the queue is empty or 64 packets are there,
 * and one write for each that goes back, its MAC addresses exchanged. One core, one thread, no sleep.
 *
 *     tap-echo NAME CPU echo|receive
 *
 * Makes the tap, of the flags Twinpath's have, prints its ifindex, and runs until standard input ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BURST = 64, ROOM = 2048, QUEUE_LENGTH = 4096, ROUNDS = 4096 };

static unsigned char frame[BURST][ROOM];
static ssize_t length[BURST];

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "tap-echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tap(const char *name)
{
	struct ifreq request;
	memset(&request, 0, sizeof(request));
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	check(tap, "/dev/net/tun");
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
	check(ioctl(tap, TUNSETIFF, &request), "TUNSETIFF");
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	check(control, "socket");
	request.ifr_qlen = QUEUE_LENGTH;
	check(ioctl(control, SIOCSIFTXQLEN, &request), "SIOCSIFTXQLEN");
	request.ifr_flags = IFF_UP | IFF_NOARP;
	check(ioctl(control, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
	check(ioctl(control, SIOCGIFINDEX, &request), "SIOCGIFINDEX");
	printf("%d\n", request.ifr_ifindex);
	fflush(stdout);
	close(control);
	return tap;
}

static void exchange_macs(unsigned char *packet)
{
	unsigned char mac[6];
	memcpy(mac, packet, 6);
	memcpy(packet, packet + 6, 6);
	memcpy(packet + 6, mac, 6);
}

int main(int count, char **argument)
{
	if (count != 4) {
		fprintf(stderr, "tap-echo NAME CPU echo|receive\n");
		return 2;
	}
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argument[2]), &cpus);
	check(sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
	const int echo = strcmp(argument[3], "echo") == 0;
	const int tap = open_tap(argument[1]);
	struct pollfd input = { .fd = 0, .events = POLLIN };

	for (unsigned round = 1; round % ROUNDS != 0 || poll(&input, 1, 0) == 0; round++) {
		int packets = 0;
		while (packets < BURST && (length[packets] = read(tap, frame[packets], ROOM)) > 0)
			packets++;
		if (packets < BURST && errno != EAGAIN)
			check(-1, "read");
		if (!echo)
			continue;
		for (int i = 0; i < packets; i++) {
			exchange_macs(frame[i]);
			check(write(tap, frame[i], length[i]), "write");
		}
	}
	return 0;
}
