/* Signals: every thread gets queued ones from several senders while it does what it does, and finds each one, in order. */
#include "stress.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

enum { SENDERS = 2, MOST = 64, STACK = 32768 };

/* How many of a sender's signals a thread was sent, and has handled. */
static unsigned sent[SENDERS][MOST], handled[SENDERS][MOST];
static int sending;
static volatile long alarms;

/* What a handler may do to registers, it does. */
static void spoil(void) {
    __asm__ volatile("vpcmpeqd %%ymm0,%%ymm0,%%ymm0\n vmovdqa %%ymm0,%%ymm1\n vmovdqa %%ymm0,%%ymm7\n vmovdqa %%ymm0,%%ymm8\n"
                     "vmovdqa %%ymm0,%%ymm15\n fldpi\n fstp %%st(0)\n std\n cld" ::
                         : "xmm0", "xmm1", "xmm7", "xmm8", "xmm15", "st", "cc");
}

static void queued(int signal, siginfo_t *info, void *context) {
    int saved = errno, sender = signal - SIGRTMIN;
    (void)context;
    spoil();
    CHECK_EQUAL((uintptr_t)__builtin_frame_address(0) % 16, 0);
    CHECK_EQUAL(info->si_code, SI_QUEUE);
    CHECK_EQUAL(info->si_pid, getpid());
    if (me) {
        int index = me - workers;
        CHECK_EQUAL(info->si_value.sival_int, handled[sender][index]);
        handled[sender][index]++;
    }
    CHECK_EQUAL(syscall(SYS_getuid), 0);
    spoil();
    errno = saved;
}

static void alarmed(int signal) {
    (void)signal;
    spoil();
    __atomic_add_fetch(&alarms, 1, __ATOMIC_RELAXED);
}

/* The faulting instruction is two bytes long and reads where rdi points. */
static void faulted(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal;
    if (info->si_addr != (void *)registers[REG_RDI] || info->si_code != SEGV_ACCERR) {
        fail(__FILE__, __LINE__, "an unexpected fault", (long)info->si_addr, registers[REG_RIP]);
        _exit(99);
    }
    spoil();
    registers[REG_RIP] += 2;
    registers[REG_RAX] = 0x5151;
}

static void prepare(void) {
    struct sigaction action = {.sa_sigaction = queued, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    for (int sender = 0; sender < SENDERS; sender++) CHECK(!sigaction(SIGRTMIN + sender, &action, 0));
    struct sigaction on_alarm = {.sa_handler = alarmed, .sa_flags = SA_RESTART};
    CHECK(!sigaction(SIGALRM, &on_alarm, 0));
    struct itimerval often = {{0, 3000}, {0, 3000}};
    CHECK(!setitimer(ITIMER_REAL, &often, 0));
    sending = SENDERS;
}

void signals_begin(struct worker *worker) {
    worker->tid = syscall(SYS_gettid);
    /* Every other thread has a stack for signals. */
    if ((worker - workers) % 2 == 0) return;
    stack_t stack = {.ss_sp = malloc(STACK), .ss_size = STACK};
    CHECK(!sigaltstack(&stack, 0));
}

void signals_end(struct worker *worker) {
    if (worker->role->step == signalling[0].step) __atomic_sub_fetch(&sending, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&sending, __ATOMIC_SEQ_CST)) pause_for(1000);
    /* What was sent by now is handled at the latest when this call is over. */
    syscall(SYS_getpid);
    for (int sender = 0; sender < SENDERS; sender++) CHECK_EQUAL(handled[sender][worker - workers], sent[sender][worker - workers]);
}

static void send_step(struct worker *worker) {
    for (int times = 1 + below(worker, 16); times--;) {
        int index = below(worker, worker_count);
        pid_t tid = workers[index].tid;
        if (!tid) continue;
        siginfo_t info = {.si_signo = SIGRTMIN + worker->number, .si_code = SI_QUEUE};
        info.si_pid = getpid();
        info.si_value.sival_int = sent[worker->number][index];
        if (syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGRTMIN + worker->number, &info) == 0) {
            sent[worker->number][index]++;
        } else {
            CHECK_EQUAL(errno, EAGAIN);
            pause_for(1000);
        }
    }
    pause_for(below(worker, 1500));
}

static void fault_step(struct worker *worker) {
    static __thread unsigned char *page, *site;
    if (!page) {
        struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO};
        CHECK(!sigaction(SIGSEGV, &action, 0));
        page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        site = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED && site != MAP_FAILED);
        memcpy(site, "\x8a\x07\xc3", 3);
    }
    for (int times = 20; times--;) CHECK_EQUAL(call_site(site, 0, (long)(page + below(worker, 4096))), 0x5151);
}

static void finish(void) {
    CHECK(alarms > 0);
    for (int sender = 0; sender < SENDERS; sender++)
        for (int i = 0; i < worker_count; i++) CHECK(!over || sent[sender][i] > 0);
}

const struct role signalling[] = {
    {"signal", SENDERS, prepare, send_step, finish},
    {"fault", 1, 0, fault_step, 0},
    {0},
};
