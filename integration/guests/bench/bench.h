/* The micro-benchmark's parts. An operation is prepared once and then carried out so many times, first to warm up. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

struct operation {
    const char *name;
    /* Makes what it needs for `count` operations at most; may be null. */
    void (*prepare)(long count);
    void (*run)(long count);
};

/* Each ends with an operation without a name. */
extern const struct operation calls[], files[], memory[], handovers[], signals[], processes[], computing[];

/* A benchmark that fails says where, and measures nothing. */
#define MUST(condition)                                                            \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                               \
        }                                                                          \
    } while (0)
