/* A guest that does its worst: processes and threads that make random calls with random and boundary arguments, on memory
 * that others unmap, protect and truncate meanwhile, under random signals, within limits that keep the machine alive.
 *
 *     hostile SEED SECONDS
 *
 * Says "ready" and waits for a line; rages; says "raging" in its fifth round; says "quiet" when nothing of it is left but itself, and
 * waits for a line; ends with status 0. What a process does follows from the seed and its number (how threads interleave does not). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORLDS = 4, THREADS = 3, AREAS = 8, AREA = 16 * 4096, PATHS = 20 };

static char *areas[AREAS];
static char area_of_paths[4096] __attribute__((aligned(4096)));
static __thread uint64_t state;
static __thread sigjmp_buf back;
static __thread volatile int guarded;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}
static uint64_t below(uint64_t n) { return (draw() >> 11) % n; }

static const char *paths[PATHS] = {"a",          "b",           "c",         "d/e",        "d",          ".",          "..",
                                   "/",          "/proc/self",  "/dev/null", "/etc/passwd", "/proc/self/mem", "/proc/self/maps",
                                   "/dev/shm/x", "/bin/sh",     "",          "a/../b/./c", "/proc/self/fd/5", "/sys", "link"};

static uint64_t pointer(void) {
    switch (below(12)) {
    case 0: return 0;
    case 1: return 8 * below(4096);
    case 2: return ~0ull - below(64);
    case 3: return 0x7ffffffff000ull - below(2) * 8;
    case 4: return draw() & 0x7fffffffffffull;
    case 5: return 0x8000000000000000ull + draw();
    case 6: return (uint64_t)areas[below(AREAS)] + AREA - below(32);
    case 7: return (uint64_t)&draw + below(4096); /* read-only */
    case 8: case 9: return (uint64_t)area_of_paths + 128 * below(PATHS);
    default: return (uint64_t)areas[below(AREAS)] + (below(AREA) & ~7ull);
    }
}

static uint64_t number(void) {
    static const uint64_t boundaries[] = {0,          1,           2,          3,          4095,        4096,       4097,        65536,
                                          0x7fffffff, 0x80000000u, 0xffffffff, 0x100000000, ~0ull,      ~1ull,      1ull << 63,  (1ull << 63) - 1,
                                          -100ull,    1ull << 40,  8,          16,         64,          128,        1024,        0x7ffffffff000ull};
    switch (below(5)) {
    case 0: return boundaries[below(sizeof boundaries / sizeof *boundaries)];
    case 1: return 1ull << below(64);
    case 2: return below(16);
    case 3: return below(0x20000);
    default: return draw() & draw();
    }
}

static uint64_t descriptor(void) { return below(10) ? below(48) : number(); }

static uint64_t argument(void) {
    switch (below(4)) {
    case 0: return pointer();
    case 1: return descriptor();
    default: return number();
    }
}

/* Fills memory that calls will take for structures: pointers, lengths, flags. Others may take it away meanwhile. */
static void scribble(void) {
    guarded = 1;
    if (!sigsetjmp(back, 1)) {
        uint64_t *words = (uint64_t *)(areas[below(AREAS)] + (below(AREA - 512) & ~7ull));
        for (uint64_t n = below(64); n--;) words[n] = argument();
    }
    guarded = 0;
}

static void caught(int signal) {
    if (guarded && (signal == SIGSEGV || signal == SIGBUS)) siglongjmp(back, 1);
    if (signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGTRAP || signal == SIGFPE) _exit(9);
}

static void fault(void) {
    guarded = 1;
    if (!sigsetjmp(back, 1)) {
        volatile char *p = (volatile char *)pointer();
        switch (below(8)) {
        case 0: *p = 1; break;
        case 1: (void)*p; break;
        case 2: __asm__ volatile("int $0x80" ::"a"(number()), "b"(argument()), "c"(argument()) : "memory"); break;
        case 3: if (!below(20)) __asm__ volatile("ud2"); break;
        case 4: if (!below(20)) __asm__ volatile("int3"); break;
        case 5: if (!below(20)) ((void (*)(void))pointer())(); break;
        case 6: if (!below(20)) __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(pointer()) : "memory"); break;
        default: for (int i = 0; i < AREA; i += 4096) areas[below(AREAS)][i] = 1;
        }
    }
    guarded = 0;
}

static long call(long n, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) { return syscall(n, a, b, c, d, e, f); }

static void memory_call(void) {
    char *area = areas[below(AREAS)];
    uint64_t offset = below(16) * 4096, length = (1 + below(16)) * 4096;
    if (length > AREA - offset) length = AREA - offset;
    switch (below(8)) {
    case 0: munmap(area + offset, length); break;
    case 1: mprotect(area + offset, length, below(8)); break;
    case 2: case 3: mmap(area + offset, length, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_ANONYMOUS | (below(2) ? MAP_PRIVATE : MAP_SHARED), -1, 0); break;
    case 4: mmap(area + offset, length, PROT_READ | below(4), MAP_FIXED | (below(2) ? MAP_PRIVATE : MAP_SHARED), descriptor(), below(4) * 4096); break;
    case 5: mremap(area + offset, length, (1 + below(16)) * 4096, below(4), areas[below(AREAS)]); break;
    case 6: madvise(area + offset, length, below(26)); break;
    default: ftruncate(descriptor(), below(3) * 4096 + below(2)); break;
    }
}

static void new_thing(void) {
    if (below(3) == 0) {
        pid_t child = fork();
        if (child == 0) {
            if (below(4) == 0) {
                char *arguments[] = {"/bin/sh", "-c", "echo $$ >a; (sleep 0.1; cat b) & cat <c; exit 3", 0};
                execve("/bin/sh", arguments, arguments + 3);
            }
            return;
        }
        if (child > 0 && below(2)) waitpid(child, 0, below(2) ? WNOHANG : 0);
        return;
    }
    uint64_t flags = (draw() & draw() & 0xffffffffull) | (below(2) ? SIGCHLD : 0);
    if (below(2)) flags &= CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_VFORK | CLONE_THREAD | CLONE_PARENT | 0xff;
    if (call(SYS_clone, flags, below(2) ? 0 : pointer(), pointer(), pointer(), pointer(), 0) == 0) call(SYS_exit, 0, 0, 0, 0, 0, 0);
}

static void any_call(void) {
    long n = below(200) ? below(470) : (long)number();
    uint64_t a = argument(), b = argument(), c = argument(), d = argument(), e = argument(), f = argument();
    switch (n) {
    case SYS_fork: case SYS_clone: case SYS_clone3: case SYS_vfork: new_thing(); return;
    /* Those that end the process or wait for ever, seldom. */
    case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigreturn:
    case SYS_execve: case SYS_execveat: case SYS_nanosleep: case SYS_select: case SYS_poll: case SYS_wait4: case SYS_waitid:
        if (below(30)) return;
        break;
    /* Limits are what keeps the machine alive, and init's are not to be touched; init is told to end at the end. */
    case SYS_prlimit64: case SYS_setrlimit: c = 0; if (n == SYS_setrlimit) return; break;
    case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: a = getpid(); if (below(3)) b = below(2) ? SIGUSR1 : SIGALRM; break;
    /* Removing the whole tree under us is no test. */
    case SYS_setpriority: case SYS_sched_setscheduler: case SYS_sched_setparam: case SYS_sched_setattr: case SYS_sched_setaffinity: a = 0; break;
    case SYS_chroot: case SYS_reboot: return;
    case SYS_mmap: case SYS_mremap: c = n == SYS_mmap ? c & 7 : c; if (n == SYS_mmap && below(2)) d |= MAP_ANONYMOUS; break;
    }
    /* A pointer or a descriptor where most calls have it. */
    if (below(2)) a = below(2) ? descriptor() : pointer();
    if (n == SYS_prlimit64) a = 0;
    if (below(2)) b = pointer();
    call(n, a, b, c, d, e, f);
}

static void *rage(void *seed) {
    state = (uint64_t)seed | 1;
    for (int i = 0; i < 8; i++) draw();
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, 0);
    for (;;) {
        switch (below(16)) {
        case 0: scribble(); break;
        case 1: fault(); break;
        case 2: case 3: memory_call(); break;
        case 4: if (!below(6)) new_thing(); break;
        case 5: call(SYS_tgkill, getpid(), getpid() + below(6), below(3) ? SIGUSR1 : SIGRTMIN + below(20), 0, 0, 0); break;
        default: any_call();
        }
    }
    return 0;
}

static void limit(int which, rlim_t value) {
    struct rlimit both = {value, value};
    setrlimit(which, &both);
}

static void descriptors(void) {
    int pair[2];
    pipe(pair);
    pipe2(pair, O_NONBLOCK);
    call(SYS_eventfd2, 1, 0, 0, 0, 0, 0);
    call(SYS_epoll_create1, 0, 0, 0, 0, 0, 0);
    call(SYS_timerfd_create, 1, 0, 0, 0, 0, 0);
    uint64_t signals = 1 << (SIGUSR2 - 1);
    call(SYS_signalfd4, -1, (uint64_t)&signals, 8, 0, 0, 0);
    call(SYS_memfd_create, (uint64_t) "m", 3, 0, 0, 0, 0);
    open("a", O_RDWR | O_CREAT, 0666);
    open("b", O_RDWR | O_CREAT | O_APPEND, 0666);
    mkfifo("c", 0666);
    open("c", O_RDWR);
    mkdir("d", 0777);
    symlink("link", "link");
    for (int i = 5; i < PATHS; i++) open(paths[i], below(2) ? O_RDONLY : O_RDWR | O_NONBLOCK);
}

static void world(uint64_t seed, int index) {
    char name[32];
    state = seed | 1;
    snprintf(name, sizeof name, "/tmp/w%d", index);
    mkdir(name, 0777);
    chmod(name, 0777);
    if (chdir(name)) _exit(1);
    limit(RLIMIT_AS, 64 << 20);
    limit(RLIMIT_FSIZE, 1 << 20);
    limit(RLIMIT_NPROC, 40);
    limit(RLIMIT_NOFILE, 200);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, 5);
    if (below(4)) { setgid(1000 + index); setuid(1000 + index); }
    for (int i = 0; i < PATHS; i++) strcpy(area_of_paths + 128 * i, paths[i]);
    descriptors();
    for (int i = 0; i < AREAS; i++) {
        int shared = i & 1 ? MAP_SHARED : MAP_PRIVATE, file = i > 5 ? open("a", O_RDWR) : -1;
        if (file >= 0) ftruncate(file, AREA);
        areas[i] = mmap(0, AREA, PROT_READ | PROT_WRITE, shared | (file < 0 ? MAP_ANONYMOUS : 0), file, 0);
        if (areas[i] == MAP_FAILED) areas[i] = (char *)(0x10000000ull + i * AREA);
    }
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER};
    for (int i = 1; i < 64; i++) {
        action.sa_flags = (action.sa_flags & ~SA_RESTART) | (i & 1 ? SA_RESTART : 0);
        if (i != SIGKILL && i != SIGSTOP && i != SIGCHLD && i != SIGXCPU) sigaction(i, &action, 0);
    }
    struct itimerval often = {{0, 7000}, {0, 7000}};
    if (below(2)) setitimer(ITIMER_REAL, &often, 0);
    pthread_t thread;
    for (int i = 1; i < THREADS; i++) pthread_create(&thread, 0, rage, (void *)(seed * 31 + i));
    rage((void *)(seed * 31));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void say(const char *word) {
    char line[64];
    dprintf(1, "%s\n", word);
    while (read(0, line, sizeof line) < 0 && errno == EINTR) {}
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    uint64_t seed = strtoull(arguments[1], 0, 0), made = 0;
    for (int i = 1; i < 64; i++) signal(i, i == SIGCHLD ? SIG_DFL : SIG_IGN);
    say("ready");
    double end = now() + atof(arguments[2]);
    state = seed | 1;
    while (now() < end) {
        for (int i = 0; i < WORLDS; i++, made++) {
            pid_t child = fork();
            if (child == 0) {
                int null = open("/dev/null", O_RDWR);
                for (int fd = 0; fd < 3; fd++) dup2(null, fd);
                for (int s = 1; s < 64; s++) signal(s, SIG_DFL);
                world((seed + made) * 0x9e3779b97f4a7c15ull, i);
                _exit(0);
            }
        }
        if (made == 5 * WORLDS) dprintf(1, "raging\n");
        struct timespec some = {0, (100 + below(600)) * 1000000};
        nanosleep(&some, 0);
        kill(-1, SIGKILL);
        double start = now();
        while (waitpid(-1, 0, WNOHANG) >= 0) {
            if (now() - start > 10) { dprintf(1, "unkillable\n"); return 3; }
            kill(-1, SIGKILL);
            struct timespec moment = {0, 1000000};
            nanosleep(&moment, 0);
        }
    }
    dprintf(2, "%lu worlds\n", (unsigned long)made);
    say("quiet");
    return 0;
}
