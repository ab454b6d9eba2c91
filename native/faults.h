/*
 * Only in a build for tests (make FAULTS=1): fails the n-th system call of one thread.
 *
 * Three calls are exempt. close always closes the descriptor, mmap of anonymous pages only replaces pages that are there,
 * and no caller could act on an error of the clock.
 */
#ifndef TWINPATH_FAULTS_H
#define TWINPATH_FAULTS_H

#if defined(__x86_64__)
enum { NR_gettid = 186 };
#else
enum { NR_gettid = 178 };
#endif

static struct {
	volatile s32 thread; /* 0: none */
	volatile s32 call;   /* number of the call that fails; 0: none, calls are only counted */
	volatile s32 error;
	volatile s32 count;
} faults;

static long faulty6(long nr, long a, long b, long c, long d, long e, long f)
{
	int exempt = nr == NR_close || nr == NR_clock_gettime || (nr == NR_mmap && (s32)e == -1);
	if (!exempt && faults.thread && faults.thread == (s32)sys6(NR_gettid, 0, 0, 0, 0, 0, 0)) {
		if (++faults.count == faults.call)
			return -faults.error;
	}
	return sys6(nr, a, b, c, d, e, f);
}

/* From now on counts the calling thread's calls, and fails the call of that number; 0 fails none. */
__attribute__((visibility("default"))) int tp_fault(int call, int error)
{
	faults.thread = 0;
	faults.call = call;
	faults.error = error;
	faults.count = 0;
	faults.thread = (s32)sys6(NR_gettid, 0, 0, 0, 0, 0, 0);
	return 0;
}

/* The number of calls so far. Any thread. */
__attribute__((visibility("default"))) int tp_fault_count(void) { return faults.count; }

#endif
