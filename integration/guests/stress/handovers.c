/* Threads and processes that hand over to each other: by pipes, futexes, mutexes and condition variables. What one sends the other gets, in
 * order, once. */
#include "stress.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { RING = 3, A_WHILE = 100 };

/* A stream of bytes, each of which follows from its place. */
static int ends[2];
static uint64_t written, taken;

static unsigned char byte_at(uint64_t place) { return place * 0x9e3779b97f4a7c15ull >> 56; }

static void prepare_stream(void) { CHECK(!pipe(ends)); }

static void write_step(struct worker *worker) {
    unsigned char bytes[4096];
    struct pollfd poll_it = {.fd = ends[1], .events = POLLOUT};
    if (poll(&poll_it, 1, A_WHILE) <= 0) return;
    size_t length = 1 + below(worker, below(worker, 4) ? 64 : sizeof bytes);
    for (size_t i = 0; i < length; i++) bytes[i] = byte_at(written + i);
    CHECK_EQUAL(write(ends[1], bytes, length), length);
    written += length;
    if (below(worker, 50) == 0) pause_for(below(worker, 1000));
}

static void read_step(struct worker *worker) {
    unsigned char bytes[8192];
    struct pollfd poll_it = {.fd = ends[0], .events = POLLIN};
    if (poll(&poll_it, 1, A_WHILE) <= 0) return;
    ssize_t length = read(ends[0], bytes, 1 + below(worker, sizeof bytes));
    CHECK(length > 0);
    for (ssize_t i = 0; i < length; i++)
        if (bytes[i] != byte_at(taken + i)) CHECK_EQUAL(bytes[i], byte_at(taken + i));
    taken += length;
}

static void finish_stream(void) {
    unsigned char bytes[8192];
    while (taken < written) {
        ssize_t length = read(ends[0], bytes, sizeof bytes);
        CHECK(length > 0);
        if (length <= 0) return;
        for (ssize_t i = 0; i < length; i++) CHECK_EQUAL(bytes[i], byte_at(taken + i));
        taken += length;
    }
    CHECK_EQUAL(taken, written);
}

/* A process that sends everything back. */
static int there[2], back[2];
static pid_t echo;

static void prepare_echo(void) {
    CHECK(!pipe(there) && !pipe(back));
    echo = fork();
    CHECK(echo >= 0);
    if (echo == 0) {
        char bytes[512];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (ssize_t length; (length = read(there[0], bytes, sizeof bytes)) > 0;) CHECK_EQUAL(write(back[1], bytes, length), length);
        _exit(0);
    }
}

static void echo_step(struct worker *worker) {
    unsigned char out[512], in[512];
    for (int times = 20; times--;) {
        size_t length = 1 + below(worker, sizeof out), got = 0;
        for (size_t i = 0; i < length; i++) out[i] = below(worker, 256);
        CHECK_EQUAL(write(there[1], out, length), length);
        while (got < length) {
            ssize_t more = read(back[0], in + got, length - got);
            CHECK(more > 0);
            if (more <= 0) return;
            got += more;
        }
        CHECK(!memcmp(in, out, length));
    }
}

static void finish_echo(void) {
    CHECK(!kill(echo, SIGKILL));
    CHECK_EQUAL(waitpid(echo, 0, 0), echo);
}

/* A token that goes round by bare futexes. */
static uint32_t token;
static unsigned long token_sum, token_turns;

static void ring_step(struct worker *worker) {
    struct timespec patience = {0, A_WHILE * 1000000};
    uint32_t seen;
    while ((seen = __atomic_load_n(&token, __ATOMIC_ACQUIRE)) % RING != (uint32_t)worker->number) {
        if (over) return;
        long result = syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, seen, &patience, 0, 0);
        CHECK(result == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
    }
    token_sum += seen;
    token_turns++;
    __atomic_store_n(&token, seen + 1, __ATOMIC_RELEASE);
    CHECK(syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0) >= 0);
}

static void finish_ring(void) {
    CHECK_EQUAL(token_turns, token);
    CHECK_EQUAL(token_sum, (unsigned long)token * (token - 1) / 2);
}

/* A queue between two makers and a taker. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER, room = PTHREAD_COND_INITIALIZER;
enum { ROOM = 5, MAKERS = 2 };
static struct { int maker; unsigned long number; } queue[ROOM];
static unsigned queued, first;
static unsigned long made[MAKERS], got[MAKERS];

static int wait_a_while(pthread_cond_t *condition) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += A_WHILE * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int result = pthread_cond_timedwait(condition, &lock, &until);
    CHECK(result == 0 || result == ETIMEDOUT);
    return !over;
}

static void make_step(struct worker *worker) {
    pthread_mutex_lock(&lock);
    while (queued == ROOM && wait_a_while(&room)) {}
    if (queued < ROOM) {
        unsigned place = (first + queued++) % ROOM;
        queue[place].maker = worker->number;
        queue[place].number = made[worker->number]++;
        pthread_cond_signal(&more);
    }
    pthread_mutex_unlock(&lock);
}

static void take_step(struct worker *worker) {
    pthread_mutex_lock(&lock);
    while (!queued && wait_a_while(&more)) {}
    if (queued) {
        int maker = queue[first].maker;
        CHECK_EQUAL(queue[first].number, got[maker]);
        got[maker]++;
        first = (first + 1) % ROOM;
        queued--;
        /* Now and then with the lock held. */
        if (below(worker, 100) == 0) pause_for(50);
        pthread_cond_signal(&room);
    }
    pthread_mutex_unlock(&lock);
}

static void finish_queue(void) { CHECK_EQUAL(made[0] + made[1], got[0] + got[1] + queued); }

const struct role handovers[] = {
    {"write", 1, prepare_stream, write_step, 0},
    {"read", 1, 0, read_step, finish_stream},
    {"echo", 1, prepare_echo, echo_step, finish_echo},
    {"ring", RING, 0, ring_step, finish_ring},
    {"make", MAKERS, 0, make_step, finish_queue},
    {"take", 1, 0, take_step, 0},
    {0},
};
