/* Memory that is mapped, changed, moved, forgotten and unmapped, each page of which carries what it must hold. Threads have neighbouring
 * places of one range, so that what one does cuts and joins the areas of others. */
#include "stress.h"
#include <sys/mman.h>

enum { PAGE = 4096, PLACES = 12, PAGES = 16, THREADS = 3, WORDS = PAGE / 8 };

static unsigned char *range;

static void prepare(void) {
    range = mmap(0, (size_t)THREADS * PLACES * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(range != MAP_FAILED);
}

/* What a thread knows of a place: for each page what it holds (0: zeros), and whether it is there at all. */
struct place {
    uint64_t stamps[PAGES];
    char there[PAGES];
    char readonly;
};

static uint64_t stamp(uint64_t seed, int word) { return (seed + word) * 0x9e3779b97f4a7c15ull; }

static void fill(unsigned char *page, uint64_t seed) {
    uint64_t *words = (uint64_t *)page;
    for (int i = 0; i < WORDS; i += 31) words[i] = seed ? stamp(seed, i) : 0;
}

static void verify(unsigned char *page, uint64_t seed) {
    volatile uint64_t *words = (uint64_t *)page;
    for (int i = 0; i < WORDS; i += 31) CHECK_EQUAL(words[i], seed ? stamp(seed, i) : 0);
}

static void map_step(struct worker *worker) {
    static __thread struct place *places;
    if (!places) places = calloc(PLACES, sizeof *places);
    int p = below(worker, PLACES), first = below(worker, PAGES), count = 1 + below(worker, PAGES - first);
    struct place *place = &places[p];
    unsigned char *base = range + (size_t)(p * THREADS + worker->number) * PAGES * PAGE;
    switch (below(worker, 8)) {
    case 0: /* Map afresh. */
    case 1:
        CHECK(mmap(base + first * PAGE, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
        for (int i = first; i < first + count; i++) place->there[i] = 1, place->stamps[i] = 0;
        break;
    case 2: /* Write. */
        for (int i = first; i < first + count; i++)
            if (place->there[i]) fill(base + i * PAGE, place->stamps[i] = 1 + below(worker, 1ull << 40));
        break;
    case 3: /* Forget. */
        for (int i = first; i < first + count; i++) {
            if (!place->there[i]) continue;
            CHECK(!madvise(base + i * PAGE, PAGE, MADV_DONTNEED));
            place->stamps[i] = 0;
        }
        break;
    case 4: /* Unmap. */
        CHECK(mmap(base + first * PAGE, count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED);
        for (int i = first; i < first + count; i++) place->there[i] = 0;
        break;
    case 5: /* Protect and back. */
        for (int i = first; i < first + count; i++) {
            if (!place->there[i]) continue;
            CHECK(!mprotect(base + i * PAGE, PAGE, PROT_READ));
            verify(base + i * PAGE, place->stamps[i]);
            CHECK(!mprotect(base + i * PAGE, PAGE, PROT_READ | PROT_WRITE));
        }
        break;
    case 6: { /* Move a page's content to another place. The page stays, or somebody else would map something there. */
        int to = below(worker, PAGES);
        if (!place->there[first] || to == first) break;
        void *moved = mremap(base + first * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, base + to * PAGE);
        CHECK(moved == base + to * PAGE);
        place->stamps[to] = place->stamps[first], place->there[to] = 1, place->stamps[first] = 0;
        break;
    }
    default:
        for (int i = 0; i < PAGES; i++)
            if (place->there[i]) verify(base + i * PAGE, place->stamps[i]);
    }
}

/* Memory that grows and shrinks in place or elsewhere. */
static void resize_step(struct worker *worker) {
    size_t pages = 1 + below(worker, 24);
    unsigned char *memory = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, (below(worker, 3) ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    uint64_t seed = 1 + below(worker, 1ull << 40);
    for (size_t i = 0; i < pages; i++) fill(memory + i * PAGE, seed + i);
    for (int times = 4; times-- && !over;) {
        size_t wanted = 1 + below(worker, 24);
        unsigned char *moved = mremap(memory, pages * PAGE, wanted * PAGE, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED) {
            /* A shared one cannot be longer than it was made. */
            CHECK(wanted > pages);
            break;
        }
        memory = moved;
        for (size_t i = 0; i < (pages < wanted ? pages : wanted); i++) verify(memory + i * PAGE, seed + i);
        /* Beyond what a shared one was made with there may be nothing. */
        if (wanted > pages) {
            CHECK(!munmap(memory + pages * PAGE, (wanted - pages) * PAGE));
            wanted = pages;
        }
        pages = wanted;
    }
    CHECK(!munmap(memory, pages * PAGE));
}

const struct role mappings[] = {
    {"map", THREADS, prepare, map_step, 0},
    {"resize", 1, 0, resize_step, 0},
    {0},
};
