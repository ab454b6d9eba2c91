/* What the programs in C share. Plain system calls; numbers of include/uapi/linux. */
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Ends the program when a result is negative. */
static inline long check(long result, const char *what)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

static inline int usage(const char *text)
{
	fprintf(stderr, "usage: %s %s\n", program_invocation_short_name, text);
	return 2;
}

static inline void run_on(int cpu)
{
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	check(sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
}

/* Index of a device. Ends the program when there is none. */
static inline int device_index(const char *name)
{
	int index = if_nametoindex(name);
	check(index > 0 ? 0 : -1, name);
	return index;
}

static inline int64_t nanos(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline int by_size(const void *a, const void *b)
{
	const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

static inline void exchange_macs(uint8_t *packet)
{
	uint8_t mac[6];
	memcpy(mac, packet, 6);
	memcpy(packet, packet + 6, 6);
	memcpy(packet + 6, mac, 6);
}

static inline long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

#define MOVE(register, value) ((struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = register, .imm = value })
#define CALL(function) ((struct bpf_insn){ .code = BPF_JMP | BPF_CALL, .imm = function })
#define EXIT ((struct bpf_insn){ .code = BPF_JMP | BPF_EXIT })

/* Loads a program. Returns its descriptor. */
static inline int load(enum bpf_prog_type type, const struct bpf_insn *code, int instructions)
{
	union bpf_attr attributes = {
		.prog_type = type,
		.insns = (uintptr_t)code,
		.insn_cnt = instructions,
		.license = (uintptr_t) "Apache-2.0",
	};
	return check(bpf(BPF_PROG_LOAD, &attributes), "bpf(PROG_LOAD)");
}
