/* Stress: threads that rewrite their text, map and unmap, fork and run programs, signal, hand over and come and go, all at once, each of
 * which checks itself: registers, flags, vector registers and the red zone across every call and signal, sums of memory, order
 * and number of what was sent.
 *
 *     stress SECONDS [SEED [ROLES]]
 *
 * ROLES is a comma-separated list of names of roles, or `all`. Says "ok" and ends with status 0, or says what was wrong. A thread that
 * does no step for a minute is stuck. */
#include "stress.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

enum { MOST = 64, TALLY_PAGES = 64, STUCK = 60 };

volatile int over;
struct worker workers[MOST];
int worker_count;
__thread struct worker *me;

static int failures;
static pid_t root;
static unsigned long *tally;

void fail(const char *file, int line, const char *what, long a, long b) {
    if (__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST) < 20)
        dprintf(2, "%s:%d: not so: %s (%ld, %ld), %s %d\n", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line, what, a, b,
                me ? me->role->name : "no role", getpid());
    over = 1;
    if (getpid() != root) _exit(99);
}

uint64_t below(struct worker *worker, uint64_t n) {
    uint64_t x = worker->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    worker->random = x;
    return (x * 0x2545f4914f6cdd1dull >> 11) % n;
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

void pause_for(long microseconds) {
    struct timespec left = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

void count_up(struct worker *worker) {
    __atomic_add_fetch(&tally[below(worker, TALLY_PAGES) * 512 + below(worker, 512)], 1, __ATOMIC_RELAXED);
    worker->counted++;
}

static void *live(void *given) {
    me = given;
    signals_begin(me);
    while (!over) {
        me->role->step(me);
        count_up(me);
        me->steps++;
    }
    signals_end(me);
    return 0;
}

static int wanted(const char *name, const char *list) {
    char all[256];
    snprintf(all, sizeof all, "%s", list);
    for (char *word = strtok(all, ","); word; word = strtok(0, ","))
        if (!strcmp(word, "all") || !strcmp(word, name)) return 1;
    return 0;
}

static const struct role *all_roles[MOST];

static void choose(const char *list) {
    const struct role *groups[] = {texts, mappings, children, handovers, signalling, lives, bursts};
    int roles = 0;
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct role *role = groups[group]; role->name; role++) {
            if (!wanted(role->name, list)) continue;
            all_roles[roles++] = role;
            for (int i = 0; i < role->threads; i++, worker_count++) workers[worker_count] = (struct worker){.role = role, .number = i};
        }
}

/* Ends everything when a thread has not done a step for long. */
static void watch(double end) {
    unsigned long seen[MOST] = {0};
    double since[MOST];
    for (int i = 0; i < worker_count; i++) since[i] = now();
    while (!over && now() < end) {
        pause_for(50000);
        for (int i = 0; i < worker_count; i++) {
            if (workers[i].steps != seen[i]) {
                seen[i] = workers[i].steps;
                since[i] = now();
            } else if (now() - since[i] > STUCK) {
                dprintf(2, "stuck: %s %d after %lu steps\n", workers[i].role->name, workers[i].number, seen[i]);
                _exit(3);
            }
        }
    }
    over = 1;
}

/* What a program does that is run by one of the roles: ends with the status that it is told. */
static int child(char **arguments) {
    int status = atoi(arguments[2]);
    return strcmp(arguments[3], "argument") || getenv("STRESS") == 0 || atoi(getenv("STRESS")) != status ? 98 : status;
}

int main(int count, char **arguments) {
    if (count == 4 && !strcmp(arguments[1], "child")) return child(arguments);
    double seconds = count > 1 ? atof(arguments[1]) : 20;
    uint64_t seed = count > 2 ? strtoull(arguments[2], 0, 0) : 1;
    root = getpid();
    tally = mmap(0, TALLY_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    choose(count > 3 ? arguments[3] : "all");
    if (!worker_count || tally == MAP_FAILED) return 2;
    for (int i = 0; all_roles[i]; i++)
        if (all_roles[i]->prepare) all_roles[i]->prepare();
    double end = now() + seconds;
    for (int i = 0; i < worker_count; i++) {
        workers[i].random = (seed * 1000 + i) * 0x9e3779b97f4a7c15ull | 1;
        if (pthread_create(&workers[i].thread, 0, live, &workers[i])) return 2;
    }
    watch(end);
    unsigned long counted = 0, found = 0;
    for (int i = 0; i < worker_count; i++) {
        struct timespec patience;
        clock_gettime(CLOCK_REALTIME, &patience);
        patience.tv_sec += STUCK;
        if (pthread_timedjoin_np(workers[i].thread, 0, &patience)) {
            dprintf(2, "stuck at the end: %s %d\n", workers[i].role->name, workers[i].number);
            _exit(3);
        }
        counted += workers[i].counted;
        CHECK(workers[i].steps > 0);
    }
    for (int i = 0; all_roles[i]; i++)
        if (all_roles[i]->finish) all_roles[i]->finish();
    for (int i = 0; i < TALLY_PAGES * 512; i++) found += tally[i];
    CHECK_EQUAL(found, counted);
    for (int i = 0; getenv("STRESS_VERBOSE") && i < worker_count; i++)
        dprintf(2, "%s %d: %lu\n", workers[i].role->name, workers[i].number, workers[i].steps);
    puts(failures ? "failed" : "ok");
    return failures != 0;
}
