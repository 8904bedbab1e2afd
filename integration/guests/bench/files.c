/* Files whose content and names are cached. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file of the root file system that is there under every runtime. */
#define PROGRAM "/bench"

static char buffer[65536];
static int written, program;

static void prepare_written(long count) {
    written = open("/tmp/file", O_CREAT | O_RDWR | O_TRUNC, 0644);
    memset(buffer, 1, sizeof buffer);
    MUST(written >= 0 && write(written, buffer, sizeof buffer) == sizeof buffer);
    (void)count;
}

static void prepare_program(long count) {
    program = open(PROGRAM, O_RDONLY);
    MUST(program >= 0);
    (void)count;
}

static void pread_1(long count) {
    while (count--) MUST(pread(written, buffer, 1, 0) == 1);
}
static void pread_4k(long count) {
    while (count--) MUST(pread(written, buffer, 4096, 0) == 4096);
}
static void pread_64k(long count) {
    while (count--) MUST(pread(written, buffer, 65536, 0) == 65536);
}
static void pwrite_4k(long count) {
    while (count--) MUST(pwrite(written, buffer, 4096, 0) == 4096);
}
static void pread_program(long count) {
    while (count--) MUST(pread(program, buffer, 4096, 0) == 4096);
}
static void seek(long count) {
    while (count--) MUST(lseek(written, 0, SEEK_SET) == 0);
}
static void stat_open(long count) {
    struct stat status;
    while (count--) MUST(!fstat(written, &status));
}
static void stat_near(long count) {
    struct stat status;
    while (count--) MUST(!stat("/tmp/file", &status));
}
static void stat_far(long count) {
    struct stat status;
    while (count--) MUST(!stat("/bin/../bin/../bin/true", &status));
}
static void stat_missing(long count) {
    struct stat status;
    while (count--) MUST(stat("/nonexistent", &status) < 0);
}
static void open_close(long count) {
    while (count--) {
        int file = open(PROGRAM, O_RDONLY);
        MUST(file >= 0 && !close(file));
    }
}
static void create_unlink(long count) {
    while (count--) {
        int file = open("/tmp/new", O_CREAT | O_RDWR, 0644);
        MUST(file >= 0 && !close(file) && !unlink("/tmp/new"));
    }
}

const struct operation files[] = {
    {"pread-1", prepare_written, pread_1},
    {"pread-4k", prepare_written, pread_4k},
    {"pread-64k", prepare_written, pread_64k},
    {"pwrite-4k", prepare_written, pwrite_4k},
    {"pread-program", prepare_program, pread_program},
    {"lseek", prepare_written, seek},
    {"fstat", prepare_written, stat_open},
    {"stat", prepare_written, stat_near},
    {"stat-deep", 0, stat_far},
    {"stat-missing", 0, stat_missing},
    {"open-close", 0, open_close},
    {"create-unlink", 0, create_unlink},
    {0},
};
