/* Processes that are forked, and programs that are run, from a process with many threads. */
#include "stress.h"
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 32, SELF = 8 };

static void wait_for(pid_t child, int status) {
    int found;
    pid_t ended;
    CHECK(child > 0);
    while ((ended = waitpid(child, &found, 0)) < 0 && errno == EINTR) {}
    CHECK_EQUAL(ended, child);
    CHECK(WIFEXITED(found));
    CHECK_EQUAL(WEXITSTATUS(found), status);
}

/* Memory that parent and child both have, and both change. */
static void fork_step(struct worker *worker) {
    static __thread uint64_t *memory, *shared, seed;
    static __thread unsigned char *sites;
    if (!memory) {
        memory = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        sites = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int form = 0; form < FORMS; form++) write_site(sites + 64 * form, form, SYS_getpid);
    }
    seed += 1000;
    for (int i = 0; i < PAGES; i++) memory[i * 512 + i] = seed + i;
    uint64_t before = *shared;
    int status = below(worker, 90);
    pid_t child = fork();
    if (child == 0) {
        pid_t process = getpid(), thread = syscall(SYS_gettid);
        CHECK_EQUAL(process, thread);
        for (int i = 0; i < PAGES; i++) CHECK_EQUAL(memory[i * 512 + i], seed + i);
        for (int i = 0; i < PAGES; i += 3) memory[i * 512 + i] = ~seed;
        for (int form = 0; form < FORMS; form++)
            for (int calls = 0; calls < 20; calls++) check_site(sites + 64 * form, form, SYS_getpid, process, thread);
        if (below(worker, 4) == 0) {
            pid_t grandchild = fork();
            if (grandchild == 0) {
                CHECK_EQUAL(memory[0], ~seed);
                CHECK_EQUAL(memory[512 + 1], seed + 1);
                _exit(7);
            }
            wait_for(grandchild, 7);
        }
        __atomic_add_fetch(shared, 1, __ATOMIC_SEQ_CST);
        _exit(status);
    }
    for (int i = 0; i < PAGES; i += 2) memory[i * 512 + i] = seed + 500 + i;
    wait_for(child, status);
    for (int i = 0; i < PAGES; i++) CHECK_EQUAL(memory[i * 512 + i], seed + (i % 2 ? 0 : 500) + i);
    CHECK_EQUAL(*shared, before + 1);
}

static void run_step(struct worker *worker) {
    int status = below(worker, 90);
    char text[16], variable[32];
    snprintf(text, sizeof text, "%d", status);
    snprintf(variable, sizeof variable, "STRESS=%d", status);
    char *arguments[] = {"/guest", "child", text, "argument", 0}, *variables[] = {variable, 0};
    pid_t child;
    switch (below(worker, 3)) {
    case 0:
        child = fork();
        if (child == 0) {
            execve("/guest", arguments, variables);
            _exit(97);
        }
        break;
    case 1:
        child = vfork();
        if (child == 0) {
            execve("/guest", arguments, variables);
            _exit(97);
        }
        break;
    default: CHECK_EQUAL(posix_spawn(&child, "/guest", 0, 0, arguments, variables), 0);
    }
    wait_for(child, status);
    /* And one that is not there. */
    if (below(worker, 8) == 0) {
        child = vfork();
        if (child == 0) {
            execve("/nowhere", arguments, variables);
            _exit(errno == ENOENT ? 11 : 12);
        }
        wait_for(child, 11);
    }
}

/* A child with threads that ends in the middle of their work, by itself or killed. */
static void *busy(void *unused) {
    for (;;) {
        char *page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *page = 1;
        munmap(page, PAGE);
        syscall(SYS_getppid);
    }
    return unused;
}

static void threads_step(struct worker *worker) {
    int killed = below(worker, 2);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        for (int i = 0; i < 3; i++) CHECK_EQUAL(pthread_create(&thread, 0, busy, 0), 0);
        if (killed) busy(0);
        pause_for(below(worker, 3000));
        _exit(42);
    }
    if (!killed) {
        wait_for(child, 42);
        return;
    }
    pause_for(below(worker, 5000));
    CHECK(!kill(child, SIGKILL));
    int found;
    pid_t ended;
    while ((ended = waitpid(child, &found, 0)) < 0 && errno == EINTR) {}
    CHECK_EQUAL(ended, child);
    CHECK(WIFSIGNALED(found) && WTERMSIG(found) == SIGKILL);
}

const struct role children[] = {
    {"fork", 1, 0, fork_step, 0},
    {"run", 1, 0, run_step, 0},
    {"fork-threads", 1, 0, threads_step, 0},
    {0},
};
