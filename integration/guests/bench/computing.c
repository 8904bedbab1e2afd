/* Computing without any call. One operation is a million dependent steps in each thread. */
#include "bench.h"
#include <pthread.h>

static volatile unsigned long result;

static void *compute(void *count) {
    unsigned long value = 1;
    for (long steps = (long)count * 1000000; steps--;) value = value * 6364136223846793005ul + 1442695040888963407ul;
    result = value;
    return 0;
}

static void one(long count) { compute((void *)count); }

static void two(long count) {
    pthread_t other;
    MUST(!pthread_create(&other, 0, compute, (void *)count));
    compute((void *)count);
    MUST(!pthread_join(other, 0));
}

const struct operation computing[] = {
    {"cpu-1", 0, one},
    {"cpu-2", 0, two},
    {0},
};
