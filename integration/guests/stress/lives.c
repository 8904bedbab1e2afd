/* Threads that come and go. */
#include "stress.h"
#include <sys/mman.h>
#include <sys/syscall.h>

enum { MOST = 6 };

struct life {
    pthread_t thread;
    long number;
    uint64_t random;
    pid_t tid;
    unsigned char *sites;
};

static __thread long own = 17;

static void *live(void *given) {
    struct life *life = given;
    struct worker dice = {.random = life->random};
    unsigned char *site = life->sites;
    CHECK_EQUAL(own, 17);
    own = life->number;
    life->tid = syscall(SYS_gettid);
    CHECK(life->tid != getpid());
    for (int calls = below(&dice, 30); calls--;) {
        int form = below(&dice, FORMS);
        check_site(site + 64 * form, form, SYS_gettid, getpid(), life->tid);
    }
    CHECK_EQUAL(own, life->number);
    if (below(&dice, 2)) pthread_exit((void *)(own + 1));
    return (void *)(own + 1);
}

static void live_step(struct worker *worker) {
    static __thread unsigned char *memory;
    if (!memory) {
        /* The threads' notes, and code for them. */
        memory = aligned_alloc(4096, 3 * 4096);
        for (int form = 0; form < FORMS; form++) write_site(memory + 4096 + 64 * form, form, SYS_gettid);
        CHECK(!mprotect(memory + 4096, 8192, PROT_READ | PROT_WRITE | PROT_EXEC));
    }
    struct life *lives[MOST];
    int count = 1 + below(worker, MOST);
    for (int i = 0; i < count; i++) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        CHECK_EQUAL(pthread_attr_setstacksize(&attributes, 65536 + 4096 * below(worker, 64)), 0);
        lives[i] = (struct life *)memory + i;
        *lives[i] = (struct life){.number = i + 100 * worker->steps, .random = (worker->random + i) | 1, .sites = memory + 4096};
        CHECK_EQUAL(pthread_create(&lives[i]->thread, &attributes, live, lives[i]), 0);
        pthread_attr_destroy(&attributes);
    }
    for (int i = 0; i < count; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(lives[i]->thread, &result), 0);
        CHECK_EQUAL((long)result, lives[i]->number + 1);
    }
}

const struct role lives[] = {
    {"live", 1, 0, live_step, 0},
    {0},
};
