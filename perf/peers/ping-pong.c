/*
 * Round trips of one packet at a time: the program that asks, and one that answers.
 *
 *     ping-pong udp|icmp ADDRESS SECONDS CPU [PAUSE_MS]    asks, and measures
 *     ping-pong first ADDRESS                              asks until the first answer comes
 *     ping-pong answer CPU [wait]                          answers UDP
 *
 * The asker is pinned to CPU and polls for the answer, so that nothing has to wake it. Times of the first 150 ms, or of the
 * first 20 packets of an asker that pauses, are not kept: caches are cold. UDP goes to port 7. With PAUSE_MS it sleeps that
 * long between an answer and the next packet. It prints the count, the packets without an answer within a second, and the
 * quantiles in nanoseconds:
 *
 *     {"count":48211,"lost":0,"p50":14893,"p90":16001,"p99":21733,"max":190211}
 *
 * It fails at an answer whose checksum or payload is wrong. Both are looked at after the time is taken.
 *
 * `first` asks five thousand times a second, for 20 seconds at most, and prints the CLOCK_MONOTONIC nanoseconds of the answer.
 *
 * `answer` is the fastest program on the kernel's own stack: it polls, pinned to CPU. With `wait` it sleeps until a packet comes.
 * It prints `ready` first.
 */
#include "peer.h"
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

#define MAX 4000000
#define WARM_NANOS 150000000LL
#define WARM_PAUSED 20
#define PAYLOAD 24
#define ANSWER_NANOS 1000000000LL
#define FIRST_NANOS 20000000000LL
#define FIRST_PAUSE_MICROS 200
#define ECHO_PORT 7

/* A socket whose other end is the address. */
static int connected(int icmp, const char *address) {
    int fd = icmp ? socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) : socket(AF_INET, SOCK_DGRAM, 0);
    check(fd, "socket");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(icmp ? 0 : ECHO_PORT)};
    check(inet_pton(AF_INET, address, &to.sin_addr) - 1, address);
    check(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
    return fd;
}

static uint16_t checksum(const uint8_t *data, int bytes) {
    uint32_t sum = 0;
    for (int i = 0; i < bytes; i += 2) sum += (uint32_t)data[i] << 8 | data[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
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

/* Ends the program: an answer that a host would drop is no answer, however fast it came. */
static void wrong(const char *what) {
    fprintf(stderr, "ping-pong: an answer has a wrong %s\n", what);
    exit(1);
}

/*
 * Whether a packet answers the last request, which has that sequence number. The kernel has checked the IP header, and UDP's
 * checksum; it hands ICMP to a raw socket as it came.
 */
static int answers(int icmp, const uint8_t *came, ssize_t bytes, uint32_t sequence) {
    const uint8_t *payload = request;
    if (icmp) {
        struct icmphdr header;
        ssize_t ip = (came[0] & 15) * 4;
        if (bytes < ip + (ssize_t)sizeof header + PAYLOAD) return 0;
        memcpy(&header, came + ip, sizeof header);
        if (header.type != ICMP_ECHOREPLY || header.un.echo.id != htons((uint16_t)getpid())) return 0;
        if (header.un.echo.sequence != htons((uint16_t)sequence)) return 0;
        if (checksum(came + ip, sizeof header + PAYLOAD) != 0) wrong("checksum");
        came += ip + sizeof header;
        payload += sizeof header;
    } else if (bytes != PAYLOAD) return 0;
    if (memcmp(came, &sequence, sizeof sequence) != 0) return 0;
    if (memcmp(came, payload, PAYLOAD) != 0) wrong("payload");
    return 1;
}

static int ask(int icmp, int fd, double seconds, int pause, const char *address) {
    uint64_t *times = malloc(MAX * sizeof *times);
    if (times == NULL) check(-1, "malloc");
    uint32_t kept = 0, lost = 0, sent = 0;
    int64_t began = nanos(CLOCK_MONOTONIC);
    int64_t warm = pause ? INT64_MAX : began + WARM_NANOS;
    int64_t end = began + (int64_t)(seconds * 1e9) + (pause ? 0 : WARM_NANOS);
    while (nanos(CLOCK_MONOTONIC) < end && kept < MAX) {
        int bytes = prepare(icmp, sent++);
        int64_t from = nanos(CLOCK_MONOTONIC);
        if (send(fd, request, bytes, 0) != bytes) check(-1, "send");
        for (;;) {
            uint8_t came[256];
            ssize_t got = recv(fd, came, sizeof came, MSG_DONTWAIT);
            int64_t at = nanos(CLOCK_MONOTONIC);
            if (got > 0 && answers(icmp, came, got, sent - 1)) {
                if (pause ? sent > WARM_PAUSED : at > warm) times[kept++] = at - from;
                break;
            }
            if (got < 0 && errno != EAGAIN) check(-1, "recv");
            if (at - from > ANSWER_NANOS) {
                lost++;
                break;
            }
        }
        if (pause) usleep(pause * 1000);
    }
    if (kept == 0) {
        fprintf(stderr, "ping-pong: no answer from %s\n", address);
        return 1;
    }
    qsort(times, kept, sizeof *times, by_size);
    printf("{\"count\":%u,\"lost\":%u,\"p50\":%lu,\"p90\":%lu,\"p99\":%lu,\"max\":%lu}\n", kept, lost, times[kept / 2],
           times[kept / 10 * 9], times[(uint64_t)kept * 99 / 100], times[kept - 1]);
    return 0;
}

static int ask_first(int fd, const char *address) {
    int64_t end = nanos(CLOCK_MONOTONIC) + FIRST_NANOS;
    char answer[64];
    while (nanos(CLOCK_MONOTONIC) < end) {
        /* Errors are the answers to earlier packets: nothing listens yet. */
        if (send(fd, request, PAYLOAD, 0) < 0 && errno != ECONNREFUSED) check(-1, "send");
        usleep(FIRST_PAUSE_MICROS);
        if (recv(fd, answer, sizeof answer, MSG_DONTWAIT) < 0) continue;
        printf("%lld\n", (long long)nanos(CLOCK_MONOTONIC));
        return 0;
    }
    fprintf(stderr, "ping-pong: no answer from %s\n", address);
    return 1;
}

static void answer(int flags) {
    int fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(ECHO_PORT)};
    check(bind(fd, (struct sockaddr *)&any, sizeof any), "bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t data[2048];
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t bytes = recvfrom(fd, data, sizeof data, flags, (struct sockaddr *)&from, &size);
        if (bytes < 0 && errno == EAGAIN) continue;
        if (bytes < 0) check(-1, "recvfrom");
        if (sendto(fd, data, bytes, 0, (struct sockaddr *)&from, size) != bytes) check(-1, "sendto");
    }
}

int main(int count, char **args) {
    const char *mode = count > 2 ? args[1] : "";
    if (strcmp(mode, "first") == 0) return ask_first(connected(0, args[2]), args[2]);
    if (strcmp(mode, "answer") == 0) {
        run_on(atoi(args[2]));
        answer(count > 3 ? 0 : MSG_DONTWAIT);
    }
    if (count < 5) return usage("udp|icmp ADDRESS SECONDS CPU [PAUSE_MS] | first ADDRESS | answer CPU [wait]");
    int icmp = strcmp(mode, "icmp") == 0;
    run_on(atoi(args[4]));
    return ask(icmp, connected(icmp, args[2]), atof(args[3]), count > 5 ? atoi(args[5]) : 0, args[2]);
}
