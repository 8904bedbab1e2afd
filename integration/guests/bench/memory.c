/* Memory that is mapped, touched and given back. */
#define _GNU_SOURCE
#include "bench.h"
#include <sys/mman.h>

static char *fresh(size_t bytes) {
    char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED);
    return memory;
}

static void map_touch_unmap(long count) {
    while (count--) {
        char *page = fresh(4096);
        *page = 1;
        MUST(!munmap(page, 4096));
    }
}

static char *next;

static void prepare_touch(long count) { next = fresh(count * 4096); }

static void touch(long count) {
    for (; count--; next += 4096) *(volatile char *)next = 1;
}

const struct operation memory[] = {
    {"mmap-touch-munmap", 0, map_touch_unmap},
    {"touch", prepare_touch, touch},
    {0},
};
