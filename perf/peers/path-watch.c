/*
 * Prints the path on which a guest's packets reach the switch, at every change.
 *
 *     path-watch SYNTHETIC UPLINK        in the host's namespace
 *
 * Watches what all devices but UPLINK receive, at the first place where the kernel shows packets (packet(7), before traffic
 * control and the bridge). When a packet comes from SYNTHETIC and the one before it came from another device, or the other way
 * round, prints the new path and the time at which the kernel had the packet: `synthetic NANOS` or `vf NANOS`,
 * CLOCK_MONOTONIC. Ends when its standard input does; then prints `dropped N`, packets that it was too slow to see.
 */
#include "peer.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define RECEIVE_BYTES (16 << 20)

static int open_socket(unsigned uplink) {
    /* Protocol 0 receives nothing: every option is set before the first packet. */
    int fd = check(socket(AF_PACKET, SOCK_DGRAM, 0), "socket");
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uplink, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 1),
    };
    struct sock_fprog filter = {4, code};
    int one = 1, bytes = RECEIVE_BYTES;
    check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), "SO_ATTACH_FILTER");
    check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one), "SO_TIMESTAMPNS");
    check(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), "SO_RCVBUFFORCE");
    check(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one), "PACKET_IGNORE_OUTGOING");
    struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    check(bind(fd, (struct sockaddr *)&all, sizeof all), "bind");
    return fd;
}

int main(int count, char **args) {
    if (count != 3) return usage("SYNTHETIC UPLINK");
    int synthetic = device_index(args[1]);
    int fd = open_socket(device_index(args[2]));
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");

    int last = -1;
    struct pollfd watched[] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (watched[1].revents == 0) {
        check(poll(watched, 2, -1), "poll");
        for (;;) {
            char byte, control[64];
            struct sockaddr_ll from;
            struct iovec iov = {&byte, 1};
            struct msghdr message = {&from, sizeof from, &iov, 1, control, sizeof control, 0};
            if (recvmsg(fd, &message, MSG_DONTWAIT) < 0) {
                if (errno == EAGAIN) break;
                if (errno == ENETDOWN) continue; /* a VF has gone */
                check(-1, "recvmsg");
            }
            int path = from.sll_ifindex == synthetic;
            if (path == last) continue;
            last = path;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            if (header == NULL || header->cmsg_type != SCM_TIMESTAMPNS) check(-1, "SCM_TIMESTAMPNS");
            struct timespec at;
            memcpy(&at, CMSG_DATA(header), sizeof at);
            /* The packet's age is the same on both clocks, unless the wall clock is set at this moment. */
            long long age = nanos(CLOCK_REALTIME) - (at.tv_sec * 1000000000LL + at.tv_nsec);
            printf("%s %lld\n", path ? "synthetic" : "vf", (long long)nanos(CLOCK_MONOTONIC) - age);
        }
    }
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    check(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size), "PACKET_STATISTICS");
    printf("dropped %u\n", stats.tp_drops);
    return 0;
}
