/*
 * Raw system calls without libc: one shared object works with glibc and musl, and every call
 * returns what the shim's functions return, a count or a negative errno.
 */
#ifndef TWINPATH_SYSCALL_H
#define TWINPATH_SYSCALL_H

#if defined(__x86_64__)
enum {
	NR_read = 0, NR_write = 1, NR_close = 3, NR_mmap = 9, NR_ioctl = 16, NR_readv = 19, NR_writev = 20, NR_socket = 41,
	NR_connect = 42, NR_sendto = 44, NR_recvfrom = 45, NR_bind = 49, NR_setsockopt = 54,
	NR_getsockopt = 55, NR_prctl = 157, NR_sched_setaffinity = 203, NR_clock_gettime = 228,
	NR_openat = 257, NR_ppoll = 271, NR_eventfd2 = 290, NR_recvmmsg = 299, NR_sendmmsg = 307,
	NR_setns = 308, NR_bpf = 321, NR_io_uring_setup = 425, NR_io_uring_enter = 426,
	NR_io_uring_register = 427,
};

/* A process's addresses are below: Linux hands out no others unasked (x86: x86_64/mm.rst, arm64: memory.rst). */
#define ADDRESSES (1ULL << 47)

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
enum {
	NR_eventfd2 = 19, NR_ioctl = 29, NR_openat = 56, NR_close = 57, NR_read = 63, NR_write = 64,
	NR_readv = 65, NR_writev = 66, NR_ppoll = 73, NR_clock_gettime = 113, NR_sched_setaffinity = 122, NR_prctl = 167, NR_socket = 198,
	NR_bind = 200, NR_connect = 203, NR_sendto = 206, NR_recvfrom = 207, NR_setsockopt = 208,
	NR_getsockopt = 209, NR_mmap = 222, NR_recvmmsg = 243, NR_setns = 268, NR_sendmmsg = 269,
	NR_bpf = 280, NR_io_uring_setup = 425, NR_io_uring_enter = 426, NR_io_uring_register = 427,
};

#define ADDRESSES (1ULL << 48)

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "Twinpath's shim supports x86-64 and arm64 only"
#endif

#ifdef TP_FAULTS
#include "faults.h"
#define sys6 faulty6
#endif

#ifdef TP_SANITIZE
#include "sanitize.h"
#define sys6 watched6
#endif

/* A count or a negative errno, which fits: Linux moves at most 0x7ffff000 bytes a call (MAX_RW_COUNT). */
static inline int narrow(long result) { return (int)result; }

/* The result as it is: an address, of mmap. */
#define LONG6(nr, a, b, c, d, e, f) \
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS6(nr, a, b, c, d, e, f) narrow(LONG6(nr, a, b, c, d, e, f))
#define SYS5(nr, a, b, c, d, e) SYS6(nr, a, b, c, d, e, 0)
#define SYS4(nr, a, b, c, d) SYS6(nr, a, b, c, d, 0, 0)
#define SYS3(nr, a, b, c) SYS6(nr, a, b, c, 0, 0, 0)
#define SYS2(nr, a, b) SYS6(nr, a, b, 0, 0, 0, 0)
#define SYS1(nr, a) SYS6(nr, a, 0, 0, 0, 0, 0)

#endif
