/* One of many: says "ready", waits for a line, works in all the ways in which threads and the sentry hand over to each other, says
 * "done", and waits for another line. Whatever comes out wrong is said, and ends it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BURSTS = 20, CALLS = 200, TURNS = 200, CHILDREN = 4 };

static void check(int right, const char *what)
{
    if (!right) {
        printf("wrong: %s\n", what);
        fflush(stdout);
        _exit(1);
    }
}

/* Short calls in a row, which make a thread hot, and computing in between, which ends it. */
static void bursts(void)
{
    long pid = getpid();
    volatile unsigned long sum = 0;
    for (int burst = 0; burst < BURSTS; burst++) {
        for (int call = 0; call < CALLS; call++)
            check(syscall(SYS_getpid) == pid, "getpid");
        for (int step = 0; step < 200000; step++)
            sum += step;
    }
}

static int there[2], back[2];

static void *echo(void *unused)
{
    char byte;
    while (read(there[0], &byte, 1) == 1)
        check(write(back[1], &byte, 1) == 1, "echo");
    return unused;
}

static void turns(void)
{
    pthread_t thread;
    check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    check(pthread_create(&thread, NULL, echo, NULL) == 0, "thread");
    for (int turn = 0; turn < TURNS; turn++) {
        char byte = (char)turn, answer = 0;
        check(write(there[1], &byte, 1) == 1 && read(back[0], &answer, 1) == 1 && answer == byte, "turn");
    }
    close(there[1]);
    pthread_join(thread, NULL);
    close(there[0]);
    close(back[0]);
    close(back[1]);
}

static void children(void)
{
    for (int child = 0; child < CHILDREN; child++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(child);
        check(pid > 0 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == child, "child");
    }
}

int main(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 2;
    bursts();
    turns();
    children();
    bursts();
    puts("done");
    fflush(stdout);
    return fgets(line, sizeof line, stdin) ? 0 : 2;
}
