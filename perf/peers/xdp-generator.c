/*
 * Sends one frame over and over, as fast as it goes and by the cheapest way the kernel has: frames that a BPF test
 * run makes and an XDP program redirects into a device (BPF_F_TEST_XDP_LIVE_FRAMES, since Linux 5.18). No socket
 * buffer is made on the way to the other end of a veth that runs native XDP: so it offers far more than is taken.
 *
 *     xdp-generator CPU SECONDS DEVICE            DEVICE sends them
 *     xdp-generator CPU SECONDS DEVICE PROGRAM    DEVICE has received them: as its driver would, it runs the XDP program
 *                                                 with that number on them; 0: none, they are the kernel's
 *     xdp-generator CPU SECONDS DEVICE drop       they are made and dropped, and their number in a second is printed
 *
 * See Documentation/bpf/bpf_prog_run.rst.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Runs are long, since it takes 30 ms to take one down. */
enum { RUN = 0x7fffffff, DROPPED = 8000000, BATCH = 64, BYTES = 60 };

static void fail(const char *what)
{
	fprintf(stderr, "xdp-generator: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void expired(int signal)
{
	(void)signal;
	_exit(0);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int loaded(const struct bpf_insn *code, int instructions)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uint64_t)code,
		.insn_cnt = instructions,
		.license = (uint64_t) "Apache-2.0",
	};
	return syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
}

static int sends(int ifindex)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = ifindex },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	return loaded(code, 4);
}

static int answers(int action)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = action },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	return loaded(code, 2);
}

static int numbered(int id)
{
	union bpf_attr by = { .prog_id = id };
	return syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &by, sizeof(by));
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 5) {
		fprintf(stderr, "xdp-generator CPU SECONDS DEVICE [PROGRAM | drop]\n");
		return 2;
	}
	int received = argc == 5;
	int drop = received && strcmp(argv[4], "drop") == 0;
	int id = received && !drop ? atoi(argv[4]) : 0;
	int seconds = atoi(argv[2]);
	int ifindex = if_nametoindex(argv[3]);
	if (ifindex == 0)
		fail(argv[3]);
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[1]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		fail("sched_setaffinity");
	prctl(PR_SET_PDEATHSIG, 15);

	int program = !received ? sends(ifindex) : drop ? answers(XDP_DROP) : id > 0 ? numbered(id) : answers(XDP_PASS);
	if (program < 0)
		fail("bpf(PROG_LOAD)");

	/* From a lab's outside to its guest. */
	uint8_t frame[BYTES] = { 2, 0x15, 0x5d, 0x77, 0, 2, 2, 0x15, 0x5d, 0x77, 0, 1, 0x88, 0xb5 };
	struct xdp_md context = { .data_end = sizeof(frame), .ingress_ifindex = received ? ifindex : 0 };
	union bpf_attr run = {
		.test = {
			.prog_fd = program,
			.data_size_in = sizeof(frame),
			.data_in = (uint64_t)frame,
			.repeat = drop ? DROPPED : RUN,
			.ctx_size_in = sizeof(context),
			.ctx_in = (uint64_t)&context,
			.flags = BPF_F_TEST_XDP_LIVE_FRAMES,
			.batch_size = BATCH,
		},
	};
	signal(SIGALRM, expired);
	alarm(seconds);
	double began = now();
	do {
		if (syscall(SYS_bpf, BPF_PROG_RUN, &run, sizeof(run)) < 0)
			fail("bpf(PROG_RUN)");
	} while (!drop);
	printf("%.0f\n", DROPPED / (now() - began));
	return 0;
}
