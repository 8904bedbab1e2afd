// Rarer ways to run, wait for, and outlive processes. Says "ok", or what did not hold.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void holds(int condition, const char *what) {
    if (!condition) {
        printf("not so: %s (errno %d)\n", what, errno);
        exit(1);
    }
}

// The wait status of a child that runs a program by execveat(2); it exits with the errno when that fails.
static int run(int directory, const char *path, int flags) {
    char *arguments[] = {"busybox", "true", NULL};
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_execveat, directory, path, arguments, environ, flags);
        _exit(errno);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static volatile sig_atomic_t caught;
static void note(int signal) { caught = signal; }

static pthread_mutex_t mutex;
static void *end_with_the_lock(void *argument) {
    pthread_mutex_lock(&mutex);
    return argument;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    holds(run(open("/bin/busybox", O_PATH), "", AT_EMPTY_PATH) == 0, "execveat runs a descriptor");
    holds(run(open("/bin", O_PATH | O_DIRECTORY), "busybox", 0) == 0, "execveat runs beneath a directory");
    holds(run(AT_FDCWD, "/bin/sh", AT_SYMLINK_NOFOLLOW) == ELOOP << 8, "execveat refuses a link that it is not to follow");

    siginfo_t information = {0};
    pid_t child = fork();
    if (child == 0) _exit(5);
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    holds(waitid(P_PIDFD, pidfd, &information, WEXITED | WNOWAIT) == 0, "waitid takes a pidfd");
    holds(information.si_code == CLD_EXITED && information.si_status == 5, "and tells how it ended");
    holds(waitid(P_PID, child, &information, WEXITED) == 0, "WNOWAIT leaves the zombie");

    int words[2], status;
    holds(pipe(words) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "a process becomes a subreaper");
    child = fork();
    if (child == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            while (getppid() == parent) usleep(1000);
            parent = getppid();
            write(words[1], &parent, sizeof parent);
            _exit(7);
        }
        _exit(0);
    }
    pid_t reaper = 0;
    waitpid(child, &status, 0);
    holds(read(words[0], &reaper, sizeof reaper) == sizeof reaper && reaper == getpid(), "an orphan goes to the subreaper");
    holds(wait(&status) > 0 && status == 7 << 8, "which can wait for it");

    child = fork();
    if (child == 0) {
        if (fork() == 0) {
            signal(SIGUSR1, note);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            write(words[1], "r", 1);
            while (!caught) usleep(1000);
            write(words[1], "d", 1);
            _exit(0);
        }
        for (;;) pause();
    }
    char word = 0;
    read(words[0], &word, 1);
    kill(child, SIGKILL);
    holds(read(words[0], &word, 1) == 1 && word == 'd', "a child is told of its parent's death");
    while (wait(NULL) > 0) {}

    pthread_mutexattr_t robust;
    pthread_t thread;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &robust);
    pthread_create(&thread, NULL, end_with_the_lock, NULL);
    pthread_join(thread, NULL);
    holds(pthread_mutex_lock(&mutex) == EOWNERDEAD, "a robust mutex tells that its owner died");
    puts("ok");
    return 0;
}
