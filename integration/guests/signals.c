// Signals to threads that call through rewritten sites: what a handler finds and changes, and what comes back of it. Says "ok".
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// Sites that become hot: of kill, and of any call. Neither touches vector registers. Behind the first there are two instructions to step through.
asm(".text\n.balign 4096\nnop\n.globl kill_site\nkill_site: mov $62,%eax\n syscall\n.globl behind_kill\nbehind_kill: nop\n nop\n ret\n"
    ".globl any_call\nany_call: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %r8,%r10\n syscall\n"
    " .byte 0x48,0x3d,0x01,0xf0,0xff,0xff\n ret\n.balign 4096\nnop\n");
extern long kill_site(pid_t, int), any_call(long, ...);
extern char behind_kill[];

enum { ROUNDS = 100 };
static int bad;
#define CHECK(c) do { if (!(c)) { fprintf(stderr, "line %d: %s\n", __LINE__, #c); bad = 1; } } while (0)

// All of the vector registers, MXCSR and the x87's stack and control word.
struct vectors { unsigned char ymm[16][32]; uint32_t mxcsr; uint16_t control; double x87; } __attribute__((aligned(32)));
static int wide;
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define LOAD_WIDE(n) asm volatile("vmovdqa %0,%%ymm" #n :: "m"(v->ymm[n]));
#define LOAD(n) asm volatile("movdqa %0,%%xmm" #n :: "m"(v->ymm[n]));
#define STORE_WIDE(n) asm volatile("vmovdqa %%ymm" #n ",%0" : "=m"(v->ymm[n]));
#define STORE(n) asm volatile("movdqa %%xmm" #n ",%0" : "=m"(v->ymm[n]));
static void __attribute__((noinline)) load(const struct vectors *v) {
    asm volatile("ldmxcsr %0\n fninit\n fldcw %1\n fldl %2" :: "m"(v->mxcsr), "m"(v->control), "m"(v->x87));
    if (wide) { EACH(LOAD_WIDE) } else { EACH(LOAD) }
}
static void __attribute__((noinline)) store(struct vectors *v) {
    memset(v, 0, sizeof *v);
    if (wide) { EACH(STORE_WIDE) } else { EACH(STORE) }
    asm volatile("stmxcsr %0\n fnstcw %1\n fstpl %2\n fninit" : "=m"(v->mxcsr), "=m"(v->control), "=m"(v->x87));
    uint32_t initial = 0x1f80;
    asm volatile("ldmxcsr %0" :: "m"(initial));
}
static struct vectors pattern(int seed) {
    struct vectors v;
    memset(&v, 0, sizeof v);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < (wide ? 32 : 16); j++) v.ymm[i][j] = seed * 7 + i * 31 + j;
    // All exceptions masked, some other rounding; the sticky flags are kept as well.
    v.mxcsr = 0x1f80 | (seed & 3) << 13 | (seed & 0x3f);
    v.control = 0x37f | (seed & 3) << 10;
    v.x87 = seed + 0.25;
    return v;
}
static int same(const struct vectors *a, const struct vectors *b) { return !memcmp(a, b, offsetof(struct vectors, x87)) && a->x87 == b->x87; }

// ---- What handlers do.
static _Thread_local int rounds, depth;
static int change, nest, step;
static _Thread_local struct vectors expected;
static pid_t me;

static void *xmm(ucontext_t *u, int n) { return u->uc_mcontext.fpregs->_xmm + n; }

static void handler(int signal, siginfo_t *info, void *context) {
    struct vectors found, mine;
    store(&found);
    ucontext_t *u = context;
    CHECK(found.mxcsr == 0x1f80 && found.control == 0x37f);
    for (int i = 0; i < 16; i++) CHECK(depth || !memcmp(xmm(u, i), expected.ymm[i], 16));
    CHECK(nest || u->uc_mcontext.fpregs->mxcsr == (depth ? 0x1f80 : expected.mxcsr));
    if (signal == SIGUSR1 && nest) {
        depth++;
        mine = pattern(200 + rounds % 20);
        load(&mine);
        kill_site(me, SIGUSR2);
        store(&found);
        CHECK(same(&mine, &found));
        depth--;
    }
    if (change && !depth) {
        memset(xmm(u, 3), 0xab, 16);
        memset(expected.ymm[3], 0xab, 16);
        u->uc_mcontext.gregs[REG_R12] = 0x1234567890;
    }
    if (step) u->uc_mcontext.gregs[REG_EFL] |= 0x100;
    mine = pattern(99);
    load(&mine);
    rounds++;
}
static void handle(int signal, void (*f)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
    if (signal == SIGUSR1 && nest != 2) sigaddset(&action.sa_mask, SIGALRM);
    CHECK(!sigaction(signal, &action, 0));
}

static void __attribute__((noinline)) rounds_of_kill(void) {
    rounds = 0;
    for (int i = 0; i < ROUNDS; i++) {
        expected = pattern(i);
        struct vectors given = expected, found;
        load(&given);
        register long r12 asm("r12") = i;
        long result;
        asm volatile("call kill_site" : "=a"(result), "+r"(r12) : "D"((long)me), "S"((long)SIGUSR1) : "rcx", "r11", "memory");
        store(&found);
        CHECK(result == 0 && rounds == i + 1);
        CHECK(r12 == (change ? 0x1234567890 : i));
        if (!same(&expected, &found)) { CHECK(!"the vectors are kept"); return; }
    }
}

// Two signals at once: the second frame is made before the first handler has run.
static void two_at_once(void) {
    sigset_t both, old;
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    rounds = 0;
    depth = 1;
    for (int i = 0; i < ROUNDS; i++) {
        any_call(SYS_rt_sigprocmask, SIG_BLOCK, &both, &old, 8);
        kill_site(me, SIGUSR1);
        kill_site(me, SIGUSR2);
        struct vectors given = pattern(i), found;
        // Of the two frames one has these, the other a fresh state.
        given.mxcsr = 0x1f80;
        load(&given);
        any_call(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
        store(&found);
        CHECK(same(&given, &found));
    }
    CHECK(rounds == 2 * ROUNDS);
    depth = 0;
}

// A thread that waits in a call when the signal comes.
static int channel[2];
static volatile int waiting;
static void *waits(void *unused) {
    char byte;
    rounds = 0;
    for (int i = 0; i < ROUNDS; i++) {
        expected = pattern(i);
        struct vectors given = expected, found;
        waiting = i + 1;
        load(&given);
        long n = any_call(SYS_read, channel[0], &byte, 1);
        store(&found);
        CHECK(n == 1 && same(&expected, &found));
    }
    CHECK(rounds > ROUNDS / 2);
    return 0;
}
static void signals_to_one_who_waits(void) {
    pthread_t thread;
    CHECK(!pipe(channel) && !pthread_create(&thread, 0, waits, 0));
    for (int i = 0; i < ROUNDS; i++) {
        while (waiting != i + 1) usleep(100);
        usleep(300);
        pthread_kill(thread, SIGUSR1);
        usleep(300);
        CHECK(write(channel[1], "x", 1) == 1);
    }
    pthread_join(thread, 0);
}

static volatile uint64_t stepped[4];
static volatile int steps;
static void on_step(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    if (steps < 4) stepped[steps] = u->uc_mcontext.gregs[REG_RIP];
    if (++steps == 2) u->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
}

static sigjmp_buf jump;
static void jumps(int signal) { siglongjmp(jump, 1); }

static int status_of_child(void (*f)(int, siginfo_t *, void *)) {
    pid_t child = fork();
    if (!child) {
        handle(SIGUSR1, f, 0);
        me = getpid();
        kill_site(me, SIGUSR1);
        _exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}
static void to_nowhere(int s, siginfo_t *i, void *context) { ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = 0x123456789abcdef0; }
static void bad_mxcsr(int s, siginfo_t *i, void *context) { ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr = 0xffffffff; }
static void bad_header(int s, siginfo_t *i, void *context) { memset((char *)((ucontext_t *)context)->uc_mcontext.fpregs + 512 + 8, 0xff, 16); }
static void good(int s, siginfo_t *i, void *context) {}

// A handler that mends what faulted.
static char *page;
static void mends(int signal, siginfo_t *info, void *context) {
    CHECK(info->si_addr == page);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

int main(void) {
    wide = __builtin_cpu_supports("avx2");
    me = getpid();
    handle(SIGUSR1, handler, 0);
    handle(SIGUSR2, handler, 0);
    unsigned char before[4096];
    memcpy(before, (char *)kill_site - 1, sizeof before);
    rounds_of_kill();
    // Or else this tests nothing.
    CHECK(memcmp(before, (char *)kill_site - 1, sizeof before));
    change = 1;
    rounds_of_kill();
    change = 0;
    for (int i = 0; i < ROUNDS; i++) any_call(SYS_getpid);
    two_at_once();

    handle(SIGUSR1, handler, SA_RESTART);
    signals_to_one_who_waits();

    nest = 1;
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    CHECK(!sigaltstack(&alternate, 0));
    handle(SIGUSR1, handler, SA_ONSTACK);
    for (int i = 0; i < ROUNDS; i++) {
        expected = pattern(i);
        struct vectors given = expected, found;
        load(&given);
        kill_site(me, SIGUSR1);
        store(&found);
        CHECK(same(&given, &found));
    }
    nest = 0;

    // gs in use: nothing of this goes by thunks.
    static long area[512];
    area[0] = 0x5a5a;
    CHECK(!syscall(SYS_arch_prctl, 0x1001, area));
    rounds_of_kill();
    long value;
    asm volatile("mov %%gs:0,%0" : "=r"(value));
    CHECK(value == 0x5a5a);
    CHECK(!syscall(SYS_arch_prctl, 0x1001, 0));

    // A return with TF set: one instruction, then the trap.
    handle(SIGTRAP, on_step, 0);
    for (int i = 0; i < 3; i++) {
        steps = 0;
        step = 1;
        expected = pattern(1);
        struct vectors given = expected;
        load(&given);
        kill_site(me, SIGUSR1);
        step = 0;
        CHECK(steps == 2 && stepped[0] == (uint64_t)behind_kill + 1 && stepped[1] == (uint64_t)behind_kill + 2);
    }

    signal(SIGUSR2, jumps);
    for (volatile int i = 0; i < ROUNDS; i++) {
        volatile int passed = 0;
        if (!sigsetjmp(jump, 1)) {
            passed = 1;
            kill_site(me, SIGUSR2);
            CHECK(!"it jumps");
        }
        CHECK(passed);
    }

    // A child inherits the registers of who calls.
    for (int i = 0; i < 5; i++) {
        struct vectors given = pattern(i), found;
        load(&given);
        long child = any_call(SYS_fork);
        store(&found);
        CHECK(same(&given, &found));
        if (!child) _exit(bad);
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }

    CHECK(status_of_child(good) == 7 << 8);
    CHECK(status_of_child(to_nowhere) == SIGSEGV);
    CHECK(status_of_child(bad_mxcsr) == SIGSEGV);
    CHECK(status_of_child(bad_header) == SIGSEGV);

    handle(SIGSEGV, mends, 0);
    page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct vectors given = pattern(i), found;
        load(&given);
        *(volatile char *)page = i;
        store(&found);
        CHECK(same(&given, &found));
        mprotect(page, 4096, PROT_READ);
    }
    puts(bad ? "failed" : "ok");
    return bad;
}
