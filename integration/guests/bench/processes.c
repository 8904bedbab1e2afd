/* Threads and processes that are made and end. */
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *given) { return given; }

static void create_join(long count) {
    while (count--) {
        pthread_t thread;
        MUST(!pthread_create(&thread, 0, nothing, 0) && !pthread_join(thread, 0));
    }
}

static void wait_for(pid_t child) {
    int status;
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void fork_exit(long count) {
    while (count--) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        wait_for(child);
    }
}

static void run(const char *program, const char *argument) {
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, argument, (char *)0);
        _exit(127);
    }
    wait_for(child);
}

static void exec_static(long count) {
    while (count--) run("/bench", "nothing");
}

static void exec_dynamic(long count) {
    while (count--) run("/bin/true", 0);
}

const struct operation processes[] = {
    {"thread", 0, create_join},
    {"fork", 0, fork_exit},
    {"exec-static", 0, exec_static},
    {"exec-dynamic", 0, exec_dynamic},
    {0},
};
