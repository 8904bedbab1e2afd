// For musl, which makes all cancellable calls at one site: a call that waits there is cancelled, and one that has taken its byte is not (with
// glibc before 2.41 it may be). Says "ok".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static int bad;
#define CHECK(c) do { if (!(c)) { fprintf(stderr, "line %d: %s\n", __LINE__, #c); bad = 1; } } while (0)

static int channel[2];
static volatile long taken;
static volatile int cleaned;
static void cleanup(void *unused) { cleaned++; }
static void *reader(void *unused) {
    char byte;
    pthread_cleanup_push(cleanup, 0);
    while (read(channel[0], &byte, 1) == 1) taken++;
    pthread_cleanup_pop(1);
    return 0;
}
static volatile long alarms;
static void on_alarm(int signal) { alarms++; }

// Pages of executable mappings that are not what their files have.
static int rewritten_pages(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], path[400], access[8];
    unsigned long start, end, offset, inode;
    int pages = 0;
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s %lx %*s %lu %399s", &start, &end, access, &offset, &inode, path) != 6) continue;
        if (strcmp(access, "r-xp") || !inode) continue;
        int fd = open(path, O_RDONLY);
        char page[4096];
        for (; start < end; start += 4096, offset += 4096)
            if (pread(fd, page, 4096, offset) == 4096 && memcmp(page, (void *)start, 4096)) pages++;
        close(fd);
    }
    fclose(maps);
    return pages;
}

int main(void) {
    CHECK(!pipe(channel));
    for (int i = 0; i < 200; i++) {
        char byte;
        CHECK(write(channel[1], "x", 1) == 1 && read(channel[0], &byte, 1) == 1);
    }
    // Or else this tests nothing.
    CHECK(rewritten_pages() > 0);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval interval = {{0, 700}, {0, 700}};
    setitimer(ITIMER_REAL, &interval, 0);
    long written = 0;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, 0, reader, 0));
        for (int j = 0; j < i % 20; j++) {
            CHECK(write(channel[1], "x", 1) == 1);
            written++;
        }
        void *result;
        CHECK(!pthread_cancel(thread) && !pthread_join(thread, &result));
        CHECK(result == PTHREAD_CANCELED && cleaned == i + 1);
        // What it did not take is there still.
        int left = 0;
        fcntl(channel[0], F_SETFL, O_NONBLOCK);
        for (char byte; read(channel[0], &byte, 1) == 1;) left++;
        fcntl(channel[0], F_SETFL, 0);
        CHECK(taken + left == written);
        taken += left;
    }
    CHECK(alarms > 0);
    puts(bad ? "failed" : "ok");
    return bad;
}
