/*
 * Only in a build for tests (make FAULTS=1): fails one system call of one thread, the n-th that it makes.
 *
 * Left alone are those that cannot fail, or not so: close always gives the descriptor back, pages are only put back
 * where pages were, and the clock has no errors that anybody could act on.
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
	volatile s32 call;   /* which call fails; 0: none, they are only counted */
	volatile s32 error;
	volatile s32 count;
} faults;

static long faulty6(long nr, long a, long b, long c, long d, long e, long f)
{
	int spared = nr == NR_close || nr == NR_clock_gettime || (nr == NR_mmap && (s32)e == -1);
	if (!spared && faults.thread && faults.thread == (s32)sys6(NR_gettid, 0, 0, 0, 0, 0, 0)) {
		if (++faults.count == faults.call)
			return -faults.error;
	}
	return sys6(nr, a, b, c, d, e, f);
}

/* From now on counts the calling thread's calls, and fails the one of that number; 0 fails none. */
__attribute__((visibility("default"))) int tp_fault(int call, int error)
{
	faults.thread = 0;
	faults.call = call;
	faults.error = error;
	faults.count = 0;
	faults.thread = (s32)sys6(NR_gettid, 0, 0, 0, 0, 0, 0);
	return 0;
}

/* How many calls have been counted. Any thread. */
__attribute__((visibility("default"))) int tp_fault_count(void) { return faults.count; }

#endif
