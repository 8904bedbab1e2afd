/* Calls in bursts, then pauses of all kinds, from more threads than there are CPUs, often all at once: what a policy that decides by
 * what was lately who waits where gets wrong. A call that is answered takes no second. */
#include "stress.h"
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

enum { BURSTERS = 3 };

long burst_getpid(void);
__asm__(".text\n.globl burst_getpid\n.balign 64\nnop\nburst_getpid: mov $39,%eax\n syscall\n ret\n");

static void compute(long microseconds) {
    double end = now() + microseconds / 1e6;
    while (now() < end) {}
}

static void burst_step(struct worker *worker) {
    pid_t process = getpid();
    long calls = 1l << below(worker, 12), spread = below(worker, 3) ? 0 : below(worker, 30);
    if (below(worker, 2)) {
        /* Begin with the others. */
        struct timespec time;
        do clock_gettime(CLOCK_MONOTONIC, &time);
        while (time.tv_nsec % 2000000 > 50000);
    }
    for (long i = 0; i < calls && !over; i++) {
        double before = now();
        CHECK_EQUAL(burst_getpid(), process);
        double took = now() - before;
        if (took > 20) fail(__FILE__, __LINE__, "a call took too long, in microseconds", took * 1e6, i);
        if (spread) compute(spread);
    }
    static uint32_t never;
    struct timespec some = {0, below(worker, 2000000)};
    switch (below(worker, 7)) {
    case 0: break;
    case 1: pause_for(below(worker, 200)); break;
    case 2: pause_for(below(worker, 5000)); break;
    case 3: compute(below(worker, 400)); break;
    case 4: compute(below(worker, 8000)); break;
    case 5:
        for (int times = 20; times--;) sched_yield();
        break;
    default: CHECK(syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &some, 0, 0) < 0);
    }
}

const struct role bursts[] = {
    {"burst", BURSTERS, 0, burst_step, 0},
    {0},
};
