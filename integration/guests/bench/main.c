/* The micro-benchmark: carries out one operation many times and says how many nanoseconds one took.
 *
 *     bench OPERATION COUNT
 *
 * It warms up with a tenth as many, says "ready" and waits for a line, so that whoever measures what the sandbox uses meanwhile knows
 * when it begins; measures, says the nanoseconds and waits for a line again. `bench nothing` ends at once: it is the program that other
 * operations run. */
#include "bench.h"
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static const struct operation *find(const char *name) {
    const struct operation *groups[] = {calls, files, memory, handovers, signals, processes, computing};
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct operation *operation = groups[group]; operation->name; operation++)
            if (!strcmp(operation->name, name)) return operation;
    return 0;
}

static void say(const char *word) {
    char line[16];
    MUST(printf("%s\n", word) > 0 && fflush(stdout) == 0);
    MUST(read(0, line, sizeof line) > 0);
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "nothing")) return 0;
    const struct operation *operation = count == 3 ? find(arguments[1]) : 0;
    if (!operation) {
        fprintf(stderr, "usage: bench OPERATION COUNT\n");
        return 2;
    }
    long times = atol(arguments[2]), before = times / 10 + 1;
    if (operation->prepare) operation->prepare(times + before);
    operation->run(before);
    say("ready");
    double start = now();
    operation->run(times);
    char result[32];
    snprintf(result, sizeof result, "%.1f", (now() - start) / times);
    say(result);
    return 0;
}
