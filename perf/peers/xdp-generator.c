/*
 * Sends one frame over and over, in the kernel's cheapest way: a BPF test run makes frames, and an XDP program redirects them into
 * a device (BPF_F_TEST_XDP_LIVE_FRAMES, since Linux 5.18). To the other end of a veth that runs native XDP no socket buffer is made
 * on the way, so this program offers far more than any receiver takes.
 *
 *     xdp-generator CPU SECONDS DEVICE                     DEVICE sends them
 *     xdp-generator CPU SECONDS DEVICE PROGRAM [FRAMES]    DEVICE has received them: as its driver would, it runs the XDP
 *                                                          program with that number on them; 0: no program, they go to the
 *                                                          kernel; drop: one that drops them
 *
 * With FRAMES, so many are made, and their number in a second is printed. The frame is an empty UDP datagram from 10.77.0.1,
 * port 4000, to 10.77.0.2, port 4001, padded to 60 bytes.
 *
 * See Documentation/bpf/bpf_prog_run.rst.
 */
#include "peer.h"
#include <signal.h>

/* Runs are long, since it takes 30 ms to take one down. */
enum { RUN = 0x7fffffff, BATCH = 64, BYTES = 60 };

static void expired(int signal)
{
	(void)signal;
	_exit(0);
}

static int sends(int ifindex)
{
	const struct bpf_insn code[] = { MOVE(1, ifindex), MOVE(2, 0), CALL(BPF_FUNC_redirect), EXIT };
	return load(BPF_PROG_TYPE_XDP, code, 4);
}

static int answers(int action)
{
	const struct bpf_insn code[] = { MOVE(0, action), EXIT };
	return load(BPF_PROG_TYPE_XDP, code, 2);
}

static int numbered(int id)
{
	union bpf_attr by = { .prog_id = id };
	return check(bpf(BPF_PROG_GET_FD_BY_ID, &by), "bpf(PROG_GET_FD_BY_ID)");
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 6)
		return usage("CPU SECONDS DEVICE [PROGRAM [FRAMES]]");
	int received = argc > 4;
	int frames = argc > 5 ? atoi(argv[5]) : RUN;
	int drop = received && strcmp(argv[4], "drop") == 0;
	int id = received && !drop ? atoi(argv[4]) : 0;
	int seconds = atoi(argv[2]);
	int ifindex = device_index(argv[3]);
	run_on(atoi(argv[1]));
	prctl(PR_SET_PDEATHSIG, 15);

	int program = !received ? sends(ifindex) : drop ? answers(XDP_DROP) : id > 0 ? numbered(id) : answers(XDP_PASS);

	/* From a lab's outside to its guest. */
	uint8_t frame[BYTES] = {
		2, 0x15, 0x5d, 0x77, 0, 2, 2, 0x15, 0x5d, 0x77, 0, 1, 0x08, 0x00,
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x66, 0x35, 10, 77, 0, 1, 10, 77, 0, 2,
		0x0f, 0xa0, 0x0f, 0xa1, 0, 8, 0, 0,
	};
	struct xdp_md context = { .data_end = sizeof(frame), .ingress_ifindex = received ? ifindex : 0 };
	union bpf_attr run = {
		.test = {
			.prog_fd = program,
			.data_size_in = sizeof(frame),
			.data_in = (uint64_t)frame,
			.repeat = frames,
			.ctx_size_in = sizeof(context),
			.ctx_in = (uint64_t)&context,
			.flags = BPF_F_TEST_XDP_LIVE_FRAMES,
			.batch_size = BATCH,
		},
	};
	signal(SIGALRM, expired);
	alarm(seconds);
	int64_t began = nanos(CLOCK_MONOTONIC);
	do
		check(bpf(BPF_PROG_RUN, &run), "bpf(PROG_RUN)");
	while (frames == RUN);
	printf("%.0f\n", frames * 1e9 / (nanos(CLOCK_MONOTONIC) - began));
	return 0;
}
