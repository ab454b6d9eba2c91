/*
 * When somebody first answers UDP on port 7 of an address: asks five thousand times a second until then.
 *
 *     first-answer ADDRESS
 *
 * Prints the CLOCK_MONOTONIC nanoseconds of the answer. Gives up after 20 seconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MICROS 200
#define PATIENCE_NANOS 20000000000LL

static int fail(const char *what) {
    fprintf(stderr, "first-answer: %s: %s\n", what, strerror(errno));
    return 1;
}

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(int count, char **args) {
    if (count != 2) {
        fprintf(stderr, "usage: first-answer ADDRESS\n");
        return 2;
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7)};
    if (fd < 0) return fail("socket");
    if (inet_pton(AF_INET, args[1], &to.sin_addr) != 1) return fail(args[1]);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) return fail("connect");
    long long end = now() + PATIENCE_NANOS;
    char request[32] = {0}, answer[64];
    while (now() < end) {
        /* Errors are earlier packets' answers: nobody listens yet. */
        if (send(fd, request, sizeof request, 0) < 0 && errno != ECONNREFUSED) return fail("send");
        usleep(PAUSE_MICROS);
        if (recv(fd, answer, sizeof answer, MSG_DONTWAIT) < 0) continue;
        printf("%lld\n", now());
        return 0;
    }
    fprintf(stderr, "first-answer: nobody answers at %s\n", args[1]);
    return 1;
}
