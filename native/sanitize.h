/*
 * Only in a build for tests (make SANITIZE=address,undefined): AddressSanitizer sees what C code reads and writes, and not
 * what the kernel does for it. So it is asked about the memory of each system call before the call.
 *
 * Not asked: what the attributes of bpf, an ethtool ifreq and a struct mmsghdr point at, and the frames of an io_uring and
 * of AF_XDP.
 */
#ifndef TWINPATH_SANITIZE_H
#define TWINPATH_SANITIZE_H

/* Of libasan: end the process with a report if a byte of the range must not be touched. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): names of libasan */
extern void __asan_loadN(unsigned long at, unsigned long bytes) __attribute__((visibility("default")));
extern void __asan_storeN(unsigned long at, unsigned long bytes) __attribute__((visibility("default")));
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

static void will_read(long at, long bytes)
{
	if (bytes > 0)
		__asan_loadN((unsigned long)at, (unsigned long)bytes);
}

static void will_write(long at, long bytes)
{
	if (bytes > 0)
		__asan_storeN((unsigned long)at, (unsigned long)bytes);
}

static void vectors(long at, long count, void (*touch)(long at, long bytes))
{
	will_read(at, count * 16);
	for (const unsigned long *one = (const unsigned long *)at; count > 0; count--, one += 2)
		touch((long)one[0], (long)one[1]);
}

static long watched6(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case NR_read:
	case NR_recvfrom:
		will_write(b, c);
		break;
	case NR_write:
	case NR_sendto:
	case NR_bind:
	case NR_connect:
	case NR_bpf:
		will_read(b, c);
		break;
	case NR_readv:
		vectors(b, c, will_write);
		break;
	case NR_writev:
		vectors(b, c, will_read);
		break;
	case NR_setsockopt:
		will_read(d, e);
		break;
	case NR_getsockopt:
		will_write(d, *(const int *)e);
		break;
	case NR_ppoll:
		will_write(a, b * 8);
		break;
	case NR_sendmmsg:
	case NR_recvmmsg:
		will_write(b, c * 64);
		break;
	default:
		break;
	}
	return sys6(nr, a, b, c, d, e, f);
}

#endif
