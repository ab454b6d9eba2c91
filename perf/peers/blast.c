/*
 * Sends frames as fast as one core can: AF_PACKET, 64 a system call, past the queueing discipline.
 *
 *     blast IFNAME FRAME_BYTES SECONDS [CPU]
 *
 * UDP over IPv4 to a MAC address that nobody has, so that a kernel which is not asked forgets it at once. Prints how many
 * frames the device took. See packet(7), sendmmsg(2).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, LEAST = 60, MOST = 1514 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *what) {
  perror(what);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4 || argc > 5) {
    fprintf(stderr, "usage: %s IFNAME FRAME_BYTES SECONDS [CPU]\n", argv[0]);
    return 2;
  }
  int bytes = atoi(argv[2]);
  double seconds = atof(argv[3]);
  if (bytes < LEAST || bytes > MOST) {
    fprintf(stderr, "FRAME_BYTES is %d to %d\n", LEAST, MOST);
    return 2;
  }
  if (argc == 5) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(argv[4]), &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) return fail("sched_setaffinity");
  }
  int fd = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0: receives nothing */
  if (fd < 0) return fail("socket");
  int one = 1;
  if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0) return fail("PACKET_QDISC_BYPASS");
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
  if (to.sll_ifindex == 0) return fail(argv[1]);
  if (bind(fd, (struct sockaddr *)&to, sizeof to) < 0) return fail("bind");

  static unsigned char frame[MOST] = {0x02, 0, 0, 0, 0, 0x99, 0x02, 0, 0, 0, 0, 0x98, 0x08, 0x00, 0x45};
  unsigned short length = htons(bytes - 14), udp = htons(bytes - 34), ports[2] = {htons(1024), htons(7)};
  memcpy(frame + 16, &length, 2);
  frame[22] = 64;
  frame[23] = 17;
  memcpy(frame + 26, "\x0a\0\0\x01\x0a\0\0\x02", 8);
  memcpy(frame + 34, ports, 4);
  memcpy(frame + 38, &udp, 2);
  struct iovec io = {frame, bytes};
  struct mmsghdr batch[BATCH];
  memset(batch, 0, sizeof batch);
  for (int i = 0; i < BATCH; i++) {
    batch[i].msg_hdr.msg_iov = &io;
    batch[i].msg_hdr.msg_iovlen = 1;
  }
  unsigned long sent = 0;
  for (double end = now() + seconds; now() < end;) {
    for (int round = 0; round < 16; round++) {
      int done = sendmmsg(fd, batch, BATCH, 0);
      if (done > 0) sent += done;
      else if (errno != ENOBUFS && errno != EAGAIN) return fail("sendmmsg");
    }
  }
  printf("%lu\n", sent);
  return 0;
}
