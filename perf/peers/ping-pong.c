/*
 * One packet at a time, there and back: how long it takes.
 *
 *     ping-pong udp|icmp ADDRESS SECONDS CPU [PAUSE_MS]
 *
 * Pinned to CPU, where it looks for the answer without ever sleeping, so that nobody has to wake it. Times of
 * the first 150 ms, or the first 20 packets of a client that pauses, are not kept: caches are cold. UDP goes to port 7. With PAUSE_MS it sleeps so long between an answer and the next packet.
 * Prints the count, how many were not answered within a second, and the quantiles in nanoseconds:
 *
 *     count 48211 lost 0 p50 14893 p90 16001 p99 21733 max 190211
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4000000
#define WARM_NANOS 150000000LL
#define WARM_PAUSED 20
#define PAYLOAD 24
#define PATIENCE_NANOS 1000000000LL

static void fail(const char *what) {
    fprintf(stderr, "ping-pong: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static uint16_t checksum(const uint8_t *data, int bytes) {
    uint32_t sum = 0;
    for (int i = 0; i < bytes; i += 2) sum += (uint32_t)data[i] << 8 | data[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint8_t request[sizeof(struct icmphdr) + PAYLOAD];

/* Writes the request of a sequence number; returns its length. */
static int prepare(int icmp, uint32_t sequence) {
    uint8_t *payload = request + (icmp ? sizeof(struct icmphdr) : 0);
    memset(payload, 0x5a, PAYLOAD);
    memcpy(payload, &sequence, sizeof sequence);
    if (!icmp) return PAYLOAD;
    struct icmphdr header = {.type = ICMP_ECHO};
    header.un.echo.id = htons((uint16_t)getpid());
    header.un.echo.sequence = htons((uint16_t)sequence);
    memcpy(request, &header, sizeof header);
    header.checksum = checksum(request, sizeof request);
    memcpy(request, &header, sizeof header);
    return sizeof request;
}

/* Whether what came answers the request of a sequence number. */
static int answers(int icmp, const uint8_t *came, ssize_t bytes, uint32_t sequence) {
    if (icmp) {
        struct icmphdr header;
        ssize_t ip = (came[0] & 15) * 4;
        if (bytes < ip + (ssize_t)sizeof header + PAYLOAD) return 0;
        memcpy(&header, came + ip, sizeof header);
        if (header.type != ICMP_ECHOREPLY || header.un.echo.id != htons((uint16_t)getpid())) return 0;
        came += ip + sizeof header;
    } else if (bytes != PAYLOAD) return 0;
    return memcmp(came, &sequence, sizeof sequence) == 0;
}

int main(int count, char **args) {
    if (count < 5) {
        fprintf(stderr, "usage: ping-pong udp|icmp ADDRESS SECONDS CPU [PAUSE_MS]\n");
        return 2;
    }
    int icmp = strcmp(args[1], "icmp") == 0;
    double seconds = atof(args[3]);
    int pause = count > 5 ? atoi(args[5]) : 0;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(args[4]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("sched_setaffinity");

    int fd = icmp ? socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) : socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) fail("socket");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(icmp ? 0 : 7)};
    if (inet_pton(AF_INET, args[2], &to.sin_addr) != 1) fail(args[2]);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");

    uint32_t *times = malloc(MOST * sizeof *times);
    if (times == NULL) fail("malloc");
    uint32_t kept = 0, lost = 0, sent = 0;
    int64_t began = now();
    int64_t warm = pause ? INT64_MAX : began + WARM_NANOS;
    int64_t end = began + (int64_t)(seconds * 1e9) + (pause ? 0 : WARM_NANOS);
    while (now() < end && kept < MOST) {
        int bytes = prepare(icmp, sent++);
        int64_t from = now();
        if (send(fd, request, bytes, 0) != bytes) fail("send");
        for (;;) {
            uint8_t came[256];
            ssize_t got = recv(fd, came, sizeof came, MSG_DONTWAIT);
            int64_t at = now();
            if (got > 0 && answers(icmp, came, got, sent - 1)) {
                if (pause ? sent > WARM_PAUSED : at > warm) times[kept++] = (uint32_t)(at - from);
                break;
            }
            if (got < 0 && errno != EAGAIN) fail("recv");
            if (at - from > PATIENCE_NANOS) {
                lost++;
                break;
            }
        }
        if (pause) usleep(pause * 1000);
    }
    if (kept == 0) {
        fprintf(stderr, "ping-pong: nobody answers at %s\n", args[2]);
        return 1;
    }
    qsort(times, kept, sizeof *times, by_size);
    printf("count %u lost %u p50 %u p90 %u p99 %u max %u\n", kept, lost, times[kept / 2], times[kept / 10 * 9],
           times[(uint64_t)kept * 99 / 100], times[kept - 1]);
    return 0;
}
