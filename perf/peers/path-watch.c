/*
 * By which path a guest's packets reach the switch, told at every change.
 *
 *     path-watch SYNTHETIC UPLINK        in the host's namespace
 *
 * Looks at what every device receives but UPLINK, at the first place where the kernel lets anybody look
 * (packet(7), before traffic control and the bridge). When a packet comes by SYNTHETIC and the one before came by
 * another device, or the other way round, prints the new path and the time at which the kernel had
 * the packet: `synthetic NANOS` or `vf NANOS`, CLOCK_MONOTONIC. Ends when its standard input does; then prints
 * `dropped N`, packets that it was too slow to see.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define RECEIVE_BYTES (16 << 20)

static void fail(const char *what) {
    fprintf(stderr, "path-watch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static long long nanos(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int open_socket(unsigned uplink) {
    /* Protocol 0 hears nothing: every option is set before the first packet. */
    int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
    if (fd < 0) fail("socket");
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uplink, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 1),
    };
    struct sock_fprog filter = {4, code};
    int one = 1, bytes = RECEIVE_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) fail("SO_ATTACH_FILTER");
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one)) fail("SO_TIMESTAMPNS");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes)) fail("SO_RCVBUFFORCE");
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)) fail("PACKET_IGNORE_OUTGOING");
    struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    if (bind(fd, (struct sockaddr *)&all, sizeof all)) fail("bind");
    return fd;
}

int main(int count, char **args) {
    if (count != 3) {
        fprintf(stderr, "usage: path-watch SYNTHETIC UPLINK\n");
        return 2;
    }
    int synthetic = (int)if_nametoindex(args[1]);
    unsigned uplink = if_nametoindex(args[2]);
    if (synthetic == 0 || uplink == 0) fail("if_nametoindex");
    int fd = open_socket(uplink);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");

    int last = -1;
    struct pollfd watched[] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (watched[1].revents == 0) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR) fail("poll");
        for (;;) {
            char byte, control[64];
            struct sockaddr_ll from;
            struct iovec iov = {&byte, 1};
            struct msghdr message = {&from, sizeof from, &iov, 1, control, sizeof control, 0};
            if (recvmsg(fd, &message, MSG_DONTWAIT) < 0) {
                if (errno == EAGAIN) break;
                if (errno == ENETDOWN) continue; /* a VF has gone */
                fail("recvmsg");
            }
            int path = from.sll_ifindex == synthetic;
            if (path == last) continue;
            last = path;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            if (header == NULL || header->cmsg_type != SCM_TIMESTAMPNS) fail("SCM_TIMESTAMPNS");
            struct timespec at;
            memcpy(&at, CMSG_DATA(header), sizeof at);
            /* Its age is the same on both clocks, so a step of the wall clock in between alone could be wrong. */
            long long age = nanos(CLOCK_REALTIME) - (at.tv_sec * 1000000000LL + at.tv_nsec);
            printf("%s %lld\n", path ? "synthetic" : "vf", nanos(CLOCK_MONOTONIC) - age);
        }
    }
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size)) fail("PACKET_STATISTICS");
    printf("dropped %u\n", stats.tp_drops);
    return 0;
}
