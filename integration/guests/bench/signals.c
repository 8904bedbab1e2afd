/* Signals that are handled. */
#define _GNU_SOURCE
#include "bench.h"
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static volatile long handled;

static void count_it(int signal) {
    (void)signal;
    handled++;
}

/* The faulting instruction below is two bytes long. */
static void step_over(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    handled++;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static pid_t self;

static void prepare_kill(long count) {
    struct sigaction action = {.sa_handler = count_it};
    MUST(!sigaction(SIGUSR1, &action, 0));
    self = getpid();
    (void)count;
}

static void kill_self(long count) {
    long want = handled + count;
    while (count--) kill(self, SIGUSR1);
    MUST(handled == want);
}

static char *forbidden;

static void prepare_fault(long count) {
    struct sigaction action = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO};
    MUST(!sigaction(SIGSEGV, &action, 0));
    forbidden = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(forbidden != MAP_FAILED);
    (void)count;
}

static void fault(long count) {
    long want = handled + count;
    while (count--) __asm__ volatile("movb (%%rax), %%al" : : "a"(forbidden) : "memory");
    MUST(handled == want);
}

const struct operation signals[] = {
    {"kill-self", prepare_kill, kill_self},
    {"segv", prepare_fault, fault},
    {0},
};
