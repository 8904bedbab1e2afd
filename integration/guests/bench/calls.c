/* Calls that do next to nothing: what is measured is the way there and back. */
#define _GNU_SOURCE
#include "bench.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void getpid_hot(long count) {
    while (count--) syscall(SYS_getpid);
}

static long (*odd_getpid)(void);

/* Text in a shared mapping must stay as it is, so that this site traps each time. */
static void prepare_odd(long count) {
    static const unsigned char code[] = {0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3};
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    MUST(!mprotect(page, 4096, PROT_READ | PROT_EXEC));
    odd_getpid = (long (*)(void))page;
    MUST(odd_getpid() == getpid());
    (void)count;
}

static void getpid_odd(long count) {
    while (count--) odd_getpid();
}

static void clock_vdso(long count) {
    struct timespec time;
    while (count--) clock_gettime(CLOCK_MONOTONIC, &time);
}

const struct operation calls[] = {
    {"getpid", 0, getpid_hot},
    {"getpid-trapping", prepare_odd, getpid_odd},
    {"clock_gettime", 0, clock_vdso},
    {0},
};
