/*
 * Answers UDP on port 7 with what came, as a program on the kernel's own stack does it at its fastest: it never
 * sleeps, and is pinned to CPU. Or, with `wait`, sleeps until a packet comes.
 *
 *     udp-echo CPU [wait]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void fail(const char *what) {
    fprintf(stderr, "udp-echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

int main(int count, char **args) {
    if (count < 2) {
        fprintf(stderr, "usage: udp-echo CPU [wait]\n");
        return 2;
    }
    int flags = count > 2 ? 0 : MSG_DONTWAIT;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(args[1]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("sched_setaffinity");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) fail("socket");
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(7)};
    if (bind(fd, (struct sockaddr *)&any, sizeof any)) fail("bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t data[2048];
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t bytes = recvfrom(fd, data, sizeof data, flags, (struct sockaddr *)&from, &size);
        if (bytes < 0) {
            if (errno == EAGAIN) continue;
            fail("recvfrom");
        }
        if (sendto(fd, data, bytes, 0, (struct sockaddr *)&from, size) != bytes) fail("sendto");
    }
}
