// What one process changes about files, every other sees at once, and nobody ever sees something in between. The first part changes
// one thing at a time and has another process look; the second has many threads change and look at the same time, with invariants
// that hold for every single look. Prints "fine", or what is wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what, long a, long b) {
    printf("wrong: %s: %ld %ld (%s)\n", what, a, b, strerror(errno));
    fflush(stdout);
    _exit(1);
}
#define CHECK(what, condition, a, b) do { if (!(condition)) fail(what, a, b); } while (0)

static int ask[2], answer[2];
struct look { int error; struct stat st; char target[64]; };

// The other process: looks at a path and says what it is.
static void looker(void) {
    char path[256];
    while (read(ask[0], path, sizeof path) == sizeof path) {
        struct look look;
        memset(&look, 0, sizeof look);
        look.error = lstat(path, &look.st) ? errno : 0;
        if (!look.error && S_ISLNK(look.st.st_mode)) readlink(path, look.target, sizeof look.target - 1);
        write(answer[1], &look, sizeof look);
    }
    _exit(0);
}
static struct look seen(const char *path) {
    char buffer[256] = {0};
    struct look look;
    strcpy(buffer, path);
    CHECK("ask", write(ask[1], buffer, sizeof buffer) == sizeof buffer, 0, 0);
    CHECK("answer", read(answer[0], &look, sizeof look) == sizeof look, 0, 0);
    return look;
}
static void put(const char *path, long bytes) {
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    CHECK("open to write", fd >= 0, 0, 0);
    CHECK("size", ftruncate(fd, bytes) == 0, 0, 0);
    close(fd);
}

static void one_at_a_time(void) {
    struct look l;
    char byte = 'x';
    for (int i = 0; i < 300; i++) {
        CHECK("missing", (l = seen("f")).error == ENOENT, l.error, i);
        put("f", i);
        CHECK("created", !(l = seen("f")).error && l.st.st_size == i && l.st.st_nlink == 1, l.error, l.st.st_size);
        ino_t inode = l.st.st_ino;
        int fd = open("f", O_RDWR);
        CHECK("write", pwrite(fd, &byte, 1, 5000 + i) == 1, 0, 0);
        CHECK("written", (l = seen("f")).st.st_size == 5001 + i && l.st.st_blocks > 0, l.st.st_size, l.st.st_blocks);
        struct stat st;
        CHECK("fstat", fstat(fd, &st) == 0 && st.st_size == 5001 + i && st.st_ino == inode, st.st_size, st.st_ino);
        CHECK("same times", l.st.st_mtim.tv_nsec == st.st_mtim.tv_nsec && l.st.st_ctim.tv_nsec == st.st_ctim.tv_nsec, 0, 0);
        CHECK("truncate", truncate("f", 10) == 0, 0, 0);
        CHECK("truncated", (l = seen("f")).st.st_size == 10 && fstat(fd, &st) == 0 && st.st_size == 10, l.st.st_size, st.st_size);
        CHECK("seek", lseek(fd, 0, SEEK_END) == 10, 0, 0);
        CHECK("fchmod", fchmod(fd, 0600 | (i & 7)) == 0, 0, 0);
        CHECK("mode", ((l = seen("f")).st.st_mode & 07777) == (0600 | (i & 7)), l.st.st_mode, i);
        CHECK("chown", chown("f", i, 2 * i) == 0, 0, 0);
        CHECK("owner", (l = seen("f")).st.st_uid == i && l.st.st_gid == 2 * i, l.st.st_uid, l.st.st_gid);
        struct timespec times[2] = {{1000 + i, 5}, {2000 + i, 6}};
        CHECK("utimensat", utimensat(AT_FDCWD, "f", times, 0) == 0, 0, 0);
        CHECK("times", (l = seen("f")).st.st_atim.tv_sec == 1000 + i && l.st.st_mtim.tv_sec == 2000 + i, l.st.st_atim.tv_sec, i);
        CHECK("link", link("f", "g") == 0, 0, 0);
        CHECK("links", (l = seen("f")).st.st_nlink == 2 && (l = seen("g")).st.st_nlink == 2 && l.st.st_ino == inode, l.st.st_nlink, i);
        CHECK("rename", rename("g", "h") == 0, 0, 0);
        CHECK("renamed", seen("g").error == ENOENT && (l = seen("h")).st.st_ino == inode, l.error, i);
        CHECK("unlink", unlink("f") == 0, 0, 0);
        CHECK("unlinked", seen("f").error == ENOENT && (l = seen("h")).st.st_nlink == 1, l.st.st_nlink, i);
        CHECK("unlink the last", unlink("h") == 0, 0, 0);
        CHECK("nameless", seen("h").error == ENOENT && fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 10, st.st_nlink, i);
        close(fd);
        char target[32];
        sprintf(target, "somewhere-%d", i);
        CHECK("symlink", symlink(target, "s") == 0, 0, 0);
        CHECK("target", !(l = seen("s")).error && !strcmp(l.target, target), l.error, i);
        CHECK("swap", symlink("other", "t") == 0 && rename("t", "s") == 0, 0, 0);
        CHECK("swapped", !strcmp((l = seen("s")).target, "other") && seen("t").error == ENOENT, l.error, i);
        unlink("s");
        CHECK("mkdir", mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0, 0, 0);
        CHECK("sub-directories", (l = seen("d")).st.st_nlink == 3 && seen("d/e/x").error == ENOENT, l.st.st_nlink, i);
        CHECK("move a directory", rename("d/e", "e") == 0, 0, 0);
        CHECK("moved", seen("d/e").error == ENOENT && !(l = seen("e")).error && seen("d").st.st_nlink == 2, l.error, i);
        put("e/x", 3);
        CHECK("in it", (l = seen("e/x")).st.st_size == 3, l.error, l.st.st_size);
        CHECK("not empty", rmdir("e") == -1 && errno == ENOTEMPTY, 0, 0);
        CHECK("clear", unlink("e/x") == 0 && rmdir("e") == 0 && rmdir("d") == 0, 0, 0);
        CHECK("gone", seen("e").error == ENOENT && seen("e/x").error == ENOENT, 0, 0);
    }
    // A file that only a mapping keeps is still the file that the name means.
    put("m", 4096);
    int fd = open("m", O_RDWR);
    char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    CHECK("mapped", (l = seen("m")).st.st_size == 4096, l.st.st_size, 0);
    map[0] = 1;
    CHECK("grow", truncate("m", 8192) == 0 && (l = seen("m")).st.st_size == 8192, l.st.st_size, 0);
    munmap(map, 4096);
    unlink("m");
}

static atomic_int over;
static atomic_long versions, mode_floor;

// Replaces a file by ever larger ones. Whoever begins to look after a replacement sees that one or a later one.
static void *replacer(void *unused) {
    (void)unused;
    for (long n = 1; !over; n++) {
        put("new", n);
        CHECK("replace", rename("new", "target") == 0, 0, 0);
        versions = n;
    }
    return 0;
}
static void *watcher(void *unused) {
    (void)unused;
    long last = 0;
    while (!over) {
        struct stat st;
        long floor = versions;
        CHECK("there is always one", stat("target", &st) == 0, errno, floor);
        CHECK("never an older one", st.st_size >= floor && st.st_size >= last, st.st_size, floor);
        last = st.st_size;
        // Either the new one is still to be seen under its old name, or the rename has happened.
        floor = versions;
        if (stat("new", &st) && errno == ENOENT && floor) {
            CHECK("renames are whole", stat("target", &st) == 0 && st.st_size >= floor, st.st_size, floor);
        }
        int fd = open("target", O_RDONLY);
        CHECK("it opens", fd >= 0, errno, 0);
        CHECK("fstat", fstat(fd, &st) == 0 && st.st_size >= last && st.st_nlink <= 1, st.st_size, st.st_nlink);
        close(fd);
    }
    return 0;
}
// Moves a directory about. A path through it leads to the file or to nothing, and the way up from it to where it is.
static void *mover(void *unused) {
    (void)unused;
    while (!over) {
        CHECK("there", rename("one/dir", "two/dir") == 0, 0, 0);
        CHECK("and back", rename("two/dir", "one/dir") == 0, 0, 0);
    }
    return 0;
}
static void *wanderer(void *unused) {
    (void)unused;
    int dir;
    while ((dir = open("one/dir/inner", O_RDONLY | O_DIRECTORY)) < 0) CHECK("open a directory", errno == ENOENT, errno, 0);
    struct stat one, two, st;
    CHECK("stat", stat("one", &one) == 0 && stat("two", &two) == 0, 0, 0);
    while (!over) {
        for (int i = 0; i < 2; i++) {
            if (stat(i ? "one/dir/inner/file" : "two/dir/inner/file", &st) == 0)
                CHECK("the file", st.st_size == 77, st.st_size, 0);
            else
                CHECK("or nothing", errno == ENOENT, errno, 0);
        }
        CHECK("from a directory", fstatat(dir, "file", &st, 0) == 0 && st.st_size == 77, st.st_size, 0);
        CHECK("up", fstatat(dir, "../..", &st, 0) == 0, errno, 0);
        CHECK("to one of the two", st.st_ino == one.st_ino || st.st_ino == two.st_ino, st.st_ino, 0);
    }
    return 0;
}
// Two links that swap: a path over them leads to one or the other.
static void *swapper(void *unused) {
    (void)unused;
    for (long n = 0; !over; n++) {
        CHECK("symlink", symlink(n & 1 ? "one/fixed" : "two/fixed", "next") == 0, errno, 0);
        CHECK("swap", rename("next", "link") == 0, errno, 0);
    }
    return 0;
}
static void *follower(void *unused) {
    (void)unused;
    while (!over) {
        struct stat st;
        char text[32] = {0};
        CHECK("follow", stat("link", &st) == 0 && (st.st_size == 11 || st.st_size == 22), errno, st.st_size);
        CHECK("read", readlink("link", text, 31) == 9 && (!strcmp(text, "one/fixed") || !strcmp(text, "two/fixed")), errno, 0);
        CHECK("access", access("link", R_OK) == 0, errno, 0);
    }
    return 0;
}
// A file that comes and goes, of which only whole states are seen.
static void *maker(void *unused) {
    (void)unused;
    while (!over) {
        int fd = open("fleeting", O_CREAT | O_EXCL | O_RDWR, 0600);
        CHECK("make", fd >= 0, errno, 0);
        CHECK("it is there", access("fleeting", F_OK) == 0, errno, 0);
        CHECK("remove", unlink("fleeting") == 0, errno, 0);
        CHECK("it is not", access("fleeting", F_OK) == -1 && errno == ENOENT, errno, 0);
        close(fd);
    }
    return 0;
}
// A file that only grows, by many writers.
static void *appender(void *unused) {
    (void)unused;
    int fd = open("log", O_WRONLY | O_APPEND);
    CHECK("log", fd >= 0, errno, 0);
    struct stat st, named;
    for (long last = 0; !over; last = st.st_size) {
        CHECK("append", write(fd, "0123456789abcdef", 16) == 16, errno, 0);
        CHECK("fstat", fstat(fd, &st) == 0 && st.st_size >= last + 16 && st.st_size % 16 == 0, st.st_size, last);
        CHECK("stat", stat("log", &named) == 0 && named.st_size >= st.st_size, named.st_size, st.st_size);
        if (st.st_size > 1 << 20) usleep(1000);
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv) {
    CHECK("a place", chdir(argv[1]) == 0 && mkdir("work", 0755) == 0 && chdir("work") == 0, errno, 0);
    umask(022);
    pipe(ask);
    pipe(answer);
    pid_t child = fork();
    if (!child) {
        close(ask[1]);
        looker();
    }
    close(ask[0]);
    one_at_a_time();
    close(ask[1]);
    waitpid(child, 0, 0);

    put("target", 0);
    put("log", 0);
    mkdir("one", 0755), mkdir("two", 0755), mkdir("one/dir", 0755), mkdir("one/dir/inner", 0755);
    put("one/dir/inner/file", 77), put("one/fixed", 11), put("two/fixed", 22);
    symlink("one/fixed", "link");
    void *(*roles[])(void *) = {replacer, watcher, watcher, mover, wanderer, wanderer, swapper, follower, maker, appender, appender};
    enum { COUNT = sizeof roles / sizeof *roles };
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++) CHECK("thread", pthread_create(&threads[i], 0, roles[i], 0) == 0, 0, 0);
    sleep(atoi(argv[2]));
    over = 1;
    for (int i = 0; i < COUNT; i++) pthread_join(threads[i], 0);
    CHECK("many versions", versions > 20, versions, 0);
    printf("fine\n");
    return 0;
}
