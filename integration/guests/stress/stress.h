/* The stress test's parts. A role is what one thread does again and again, checking itself, until it is told to stop. */
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A thread with a role. */
struct worker {
    const struct role *role;
    pthread_t thread;
    int number;
    pid_t tid;
    uint64_t random;
    /* Steps done; the main thread sees by it that the thread is not stuck. */
    volatile unsigned long steps;
    /* How many counts it added to the common tally. */
    unsigned long counted;
};

struct role {
    const char *name;
    /* How many threads have it. */
    int threads;
    /* Once, before the threads start; may be null. */
    void (*prepare)(void);
    /* One step of a thread. Its first step has `steps` 0. */
    void (*step)(struct worker *);
    /* Once, after all threads ended: checks what is left; may be null. */
    void (*finish)(void);
};

/* Each ends with a role without a name. */
extern const struct role texts[], mappings[], children[], handovers[], signalling[], lives[], bursts[];

/* Whether the time is over, or something failed. */
extern volatile int over;
extern struct worker workers[];
extern int worker_count;
/* The worker of the calling thread; null in threads without a role. */
extern __thread struct worker *me;

void fail(const char *file, int line, const char *what, long a, long b);
#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition, errno, 0))
#define CHECK_EQUAL(found, wanted)                                                         \
    do {                                                                                   \
        long found_ = (long)(found), wanted_ = (long)(wanted);                             \
        if (found_ != wanted_) fail(__FILE__, __LINE__, #found " == " #wanted, found_, wanted_); \
    } while (0)

/* A number below `n`. */
uint64_t below(struct worker *, uint64_t n);
double now(void);
/* Waits so many microseconds, whatever interrupts it. */
void pause_for(long microseconds);

/* Adds one to the common tally, in one of its pages: what copy-on-write loses is missing in the end. */
void count_up(struct worker *);

/* What a thread does about signals before its first step and after its last. */
void signals_begin(struct worker *);
void signals_end(struct worker *);

/* Calls `site` (code that ends with ret) with all registers, flags, the red zone and vector registers filled, `number` in rax and `first`
 * in rdi, and checks all that a system call keeps. Gives rax. */
long call_site(void *site, long number, long first);

/* Code of a call site at `place`, of the given form. What the call returns is known: `expected`. */
enum { FORMS = 5, SITE_BYTES = 32 };
void write_site(unsigned char *place, int form, int number);
/* Calls it (it was written with `number`) and checks what it returns. */
void check_site(void *place, int form, int number, pid_t process, pid_t thread);
/* Numbers of calls whose result is known. */
int some_number(struct worker *);
