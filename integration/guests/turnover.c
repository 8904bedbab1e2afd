/* A guest that uses and gives back: memory, processes, files, programs. It says what it has done and waits for a line before it
 * goes on. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGE = 500 << 20 };

static void say(const char *word) {
    char line[16];
    dprintf(1, "%s\n", word);
    if (read(0, line, sizeof line) <= 0) exit(1);
}

static void end_of(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status) exit(2);
}

static void forks(int n) {
    while (n--) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        end_of(child);
    }
}

static void files(const char *directory, int n) {
    char name[64];
    while (n--) {
        snprintf(name, sizeof name, "%s/file-%d", directory, n);
        int file = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (file < 0 || write(file, name, sizeof name) != sizeof name || close(file) || unlink(name)) exit(3);
    }
}

static void programs(int n) {
    while (n--) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/guest", "/guest", "end", (char *)0);
            _exit(1);
        }
        end_of(child);
    }
}

static void large(const char *said) {
    char *memory = mmap(0, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(4);
    memset(memory, 1, LARGE);
    say(said);
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "end")) return 0;
    say("ready");
    pid_t child = fork();
    if (child == 0) {
        large("large");
        _exit(0);
    }
    end_of(child);
    for (int round = 1; round <= 5; round++) {
        forks(500);
        files("/tmp", 250);
        files("/dev/shm", 250);
        programs(50);
        if (round == 1) say("warm");
    }
    say("done");
    return 0;
}
