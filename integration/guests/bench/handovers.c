/* Threads and processes that hand over to each other. */
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

static int there[2], back[2];
static char byte;

static void answer(void) {
    char given;
    while (read(there[0], &given, 1) == 1) MUST(write(back[1], &given, 1) == 1);
}

static void *answering(void *unused) {
    answer();
    return unused;
}

static void prepare_threads(long count) {
    pthread_t thread;
    MUST(!pipe(there) && !pipe(back));
    MUST(!pthread_create(&thread, 0, answering, 0));
    (void)count;
}

static void prepare_processes(long count) {
    MUST(!pipe(there) && !pipe(back));
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(there[1]);
        answer();
        _exit(0);
    }
    (void)count;
}

static void ping_pong(long count) {
    while (count--) MUST(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
}

static void prepare_alone(long count) {
    MUST(!pipe(there));
    (void)count;
}

static void write_read(long count) {
    while (count--) MUST(write(there[1], &byte, 1) == 1 && read(there[0], &byte, 1) == 1);
}

/* A ring of threads, each with a condition variable on which it waits for its turn. */
enum { MOST = 4 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_of[MOST] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
                                       PTHREAD_COND_INITIALIZER};
static int turn, ring;

/* Takes the turn so many times and hands it on each time. */
static void take_turns(int me, long times) {
    pthread_mutex_lock(&lock);
    while (times--) {
        while (turn != me) pthread_cond_wait(&turn_of[me], &lock);
        turn = (me + 1) % ring;
        pthread_cond_signal(&turn_of[turn]);
    }
    pthread_mutex_unlock(&lock);
}

static void *member(void *me) {
    take_turns((long)me, 1L << 60);
    return 0;
}

static void prepare_ring(int size) {
    ring = size;
    for (long me = 1; me < ring; me++) {
        pthread_t thread;
        MUST(!pthread_create(&thread, 0, member, (void *)me));
    }
}

static void prepare_two(long count) {
    prepare_ring(2);
    (void)count;
}
static void prepare_four(long count) {
    prepare_ring(4);
    (void)count;
}

/* `count` hand-overs. */
static void round_and_round(long count) { take_turns(0, count / ring); }

const struct operation handovers[] = {
    {"pipe-threads", prepare_threads, ping_pong},
    {"pipe-processes", prepare_processes, ping_pong},
    {"pipe-alone", prepare_alone, write_read},
    {"condvar-2", prepare_two, round_and_round},
    {"condvar-4", prepare_four, round_and_round},
    {0},
};
