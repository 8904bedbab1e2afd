/* Threads run on the CPUs that they asked for. Says "ok", or what was wrong. The CPUs are numbered as the host numbers them, so the sandbox
 * must have all of them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 20, LOOKS = 300 };

static void check(int right, const char *what)
{
    if (!right) {
        printf("wrong: %s\n", what);
        fflush(stdout);
        _exit(1);
    }
}

static void bind(pid_t tid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    check(sched_setaffinity(tid, sizeof set, &set) == 0, "sched_setaffinity");
}

static void stays(int cpu, const char *what)
{
    for (int look = 0; look < LOOKS; look++) {
        check(sched_getcpu() == cpu, what);
        if (look % 3 == 0)
            syscall(SYS_getpid);
        if (look % 50 == 0)
            usleep(100);
    }
}

static volatile pid_t other;
static volatile int wanted = -1, seen = -1;

/* Says where it is, without calling anybody. */
static void *computes(void *unused)
{
    other = gettid();
    while (wanted != -2)
        seen = sched_getcpu();
    return unused;
}

int main(void)
{
    int cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (int round = 0; round < ROUNDS; round++) {
        for (int cpu = 0; cpu < cpus; cpu++) {
            bind(0, cpu);
            stays(cpu, "the caller");
        }
    }
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        stays(cpus - 1, "a child");
        _exit(0);
    }
    check(waitpid(child, &status, 0) == child && status == 0, "a child inherits it");

    pthread_t thread;
    bind(0, 0);
    check(pthread_create(&thread, NULL, computes, NULL) == 0, "pthread_create");
    while (!other)
        usleep(100);
    for (int round = 0; round < ROUNDS; round++) {
        int cpu = round % cpus;
        bind(other, cpu);
        for (int wait = 0; seen != cpu; wait++) {
            check(wait < 100000, "another thread moves");
            usleep(100);
        }
        for (int look = 0; look < 20; look++) {
            usleep(100);
            check(seen == cpu, "another thread stays");
        }
    }
    wanted = -2;
    pthread_join(thread, NULL);
    puts("ok");
    fflush(stdout);
    return 0;
}
