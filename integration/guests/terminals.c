// Pseudo-terminals and job control, step by step. Says what it sees, which is the same on every kernel that does as Linux.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static const char *error(int failed) { return failed < 0 ? strerrorname_np(errno) : "ok"; }

// A read, with what cannot be printed escaped.
static void show_read(const char *what, int fd, size_t most) {
    char bytes[256];
    ssize_t got = read(fd, bytes, most);
    printf("%s: ", what);
    if (got < 0) printf("%s", error(-1));
    for (ssize_t i = 0; i < got; i++) printf(bytes[i] >= ' ' && bytes[i] < 127 ? "%c" : "\\x%02x", bytes[i] & 0xff);
    printf(" (%zd)\n", got);
}

// The same, but it does not wait for ever.
static void show(const char *what, int fd, size_t most) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, 5000) == 0)
        printf("%s: nothing\n", what);
    else
        show_read(what, fd, most);
}

static int readiness(int fd) {
    struct pollfd ready = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI};
    poll(&ready, 1, 0);
    return ready.revents;
}

static void put(int fd, const char *text) {
    if (write(fd, text, strlen(text)) < 0) printf("write: %s\n", error(-1));
}

static int open_master(void) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0) printf("ptmx: %s\n", error(-1));
    return master;
}

static int open_slave(int master, int flags) {
    unlockpt(master);
    return open(ptsname(master), O_RDWR | flags);
}

static void names(void) {
    puts("-- names");
    int master = open_master(), number = -1, locked = -1;
    printf("TIOCGPTN %s\n", error(ioctl(master, TIOCGPTN, &number)));
    char path[32];
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    printf("while locked: %s\n", error(open(path, O_RDWR | O_NOCTTY)));
    ioctl(master, TIOCGPTLCK, &locked);
    printf("locked %d, grantpt %s, unlockpt %s\n", locked, error(grantpt(master)), error(unlockpt(master)));
    printf("ptsname %s\n", ptsname(master));
    int slave = open(path, O_RDWR | O_NOCTTY);
    struct stat by_path, by_fd;
    stat(path, &by_path);
    fstat(slave, &by_fd);
    printf("mode %o, owner %u:%u, device %u:%u, the same inode %d\n", by_fd.st_mode, by_fd.st_uid, by_fd.st_gid,
           major(by_fd.st_rdev), minor(by_fd.st_rdev) - number, by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev);
    stat("/dev/ptmx", &by_path);
    fstat(master, &by_fd);
    printf("ptmx %u:%u, the same inode %d\n", major(by_fd.st_rdev), minor(by_fd.st_rdev), by_path.st_ino == by_fd.st_ino);
    printf("ttyname %s, isatty %d %d\n", ttyname(slave), isatty(slave), isatty(master));
    int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    printf("peer %s %s\n", error(peer), ttyname(peer));
    printf("chmod %s, chown %s\n", error(chmod(path, 0600)), error(chown(path, 12, 34)));
    fstat(slave, &by_fd);
    printf("mode %o, owner %u:%u\n", by_fd.st_mode, by_fd.st_uid, by_fd.st_gid);
    int second = open_master(), other = -1;
    ioctl(second, TIOCGPTN, &other);
    printf("the next number %d\n", other - number);
    close(master);
    printf("after the master: stat %s\n", error(stat(path, &by_path)));
    close(slave);
    close(peer);
    close(second);
    second = open_master();
    ioctl(second, TIOCGPTN, &other);
    printf("the number is free again %d\n", other - number);
    close(second);
    slave = open_master();
    printf("pread %s, lseek %s\n", error(pread(slave, path, 1, 0)), error(lseek(slave, 0, SEEK_SET)));
    close(slave);
}

static void ends(void) {
    puts("-- ends");
    int master = open_master();
    printf("master without a slave %#x\n", readiness(master));
    put(master, "early\n");
    int slave = open_slave(master, O_NOCTTY);
    // Asking the slave first has Linux work on what was typed.
    printf("slave %#x", readiness(slave));
    printf(", master %#x\n", readiness(master));
    show("slave", slave, 100);
    show("echo", master, 100);
    put(slave, "bye\n");
    close(slave);
    printf("master without slaves %#x\n", readiness(master));
    show("last words", master, 100);
    show("end", master, 100);
    slave = open_slave(master, O_NOCTTY);
    printf("opened again: master %#x\n", readiness(master));
    put(master, "still\n");
    show("slave", slave, 100);
    close(master);
    printf("slave without a master %#x\n", readiness(slave));
    show("slave", slave, 100);
    printf("write %s\n", error(write(slave, "x", 1)));
    struct termios termios;
    printf("tcgetattr %s\n", error(tcgetattr(slave, &termios)));
    close(slave);
}

static struct termios raw_of(int fd, int minimum, int time) {
    struct termios termios;
    tcgetattr(fd, &termios);
    cfmakeraw(&termios);
    termios.c_cc[VMIN] = minimum;
    termios.c_cc[VTIME] = time;
    tcsetattr(fd, TCSANOW, &termios);
    return termios;
}

static void type_later(int master, const char *text) {
    if (fork() == 0) {
        for (; *text; text++) {
            usleep(50000);
            (void)!write(master, text, 1);
        }
        _exit(0);
    }
}

static void timed(void) {
    puts("-- VMIN and VTIME");
    int master = open_master(), slave = open_slave(master, O_NOCTTY);
    char bytes[10];
    raw_of(slave, 0, 0);
    printf("0 0: %zd\n", read(slave, bytes, sizeof bytes));
    raw_of(slave, 0, 2);
    printf("0 2: %zd\n", read(slave, bytes, sizeof bytes));
    raw_of(slave, 4, 0);
    put(master, "ab");
    printf("4 0: poll %#x\n", readiness(slave));
    type_later(master, "cdef");
    printf("4 0: %zd\n", read(slave, bytes, sizeof bytes));
    wait(NULL);
    raw_of(slave, 9, 3);
    type_later(master, "xyz");
    printf("9 3: %zd\n", read(slave, bytes, sizeof bytes));
    wait(NULL);
    raw_of(slave, 9, 0);
    put(master, "nonblocking");
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    printf("9 0: %zd\n", read(slave, bytes, 3));
    printf("9 0: %zd\n", read(slave, bytes, 10));
    printf("9 0: %s\n", error(read(slave, bytes, 10)));
    close(master);
    close(slave);
}

static void settings(void) {
    puts("-- settings");
    int master = open_master(), slave = open_slave(master, O_NOCTTY), number = -1;
    struct termios termios;
    tcgetattr(master, &termios);
    printf("%x %x %x %x", termios.c_iflag, termios.c_oflag, termios.c_cflag, termios.c_lflag);
    for (int i = 0; i < 17; i++) printf(" %x", termios.c_cc[i]);
    puts("");
    cfsetspeed(&termios, B9600);
    termios.c_cflag |= PARENB | CSTOPB;
    tcsetattr(slave, TCSADRAIN, &termios);
    tcgetattr(master, &termios);
    printf("%x %d\n", termios.c_cflag, cfgetospeed(&termios) == B9600);
    put(master, "typed\nahead");
    show("echo", master, 100);
    printf("FIONREAD %s", error(ioctl(slave, FIONREAD, &number)));
    printf(" %d\n", number);
    tcsetattr(slave, TCSAFLUSH, &termios);
    ioctl(slave, FIONREAD, &number);
    printf("flushed %d\n", number);
    put(master, "more\n");
    show("echo", master, 100);
    printf("tcflush %s", error(tcflush(slave, TCIFLUSH)));
    ioctl(slave, FIONREAD, &number);
    printf(" %d\n", number);
    printf("tcdrain %s, tcsendbreak %s, tcflow %s\n", error(tcdrain(slave)), error(tcsendbreak(slave, 0)), error(tcflow(slave, TCOOFF)));
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    printf("held: %s, %#x\n", error(write(slave, "x", 1)), readiness(slave));
    tcflow(slave, TCOON);
    printf("released: %s\n", error(write(slave, "x", 1)));
    // With which errno depends on how Linux was built.
    printf("TIOCSTI %s\n", ioctl(slave, TIOCSTI, "x") < 0 ? "refused" : "ok");
    printf("TIOCEXCL %s\n", error(ioctl(slave, TIOCEXCL)));
    printf("opened once more: %s\n", error(open(ptsname(master), O_RDWR | O_NOCTTY)));
    ioctl(slave, TIOCNXCL);
    number = -1;
    printf("TIOCGETD %s %d, TIOCOUTQ %s", error(ioctl(slave, TIOCGETD, &number)), number, error(ioctl(slave, TIOCOUTQ, &number)));
    printf(" %d\n", number);
    printf("no such request %s %s\n", error(ioctl(slave, 0x54ff, &number)), error(ioctl(master, 0x54ff, &number)));
    close(master);
    close(slave);
}

static void packets(void) {
    puts("-- packet mode");
    int master = open_master(), slave = open_slave(master, O_NOCTTY), on = 1;
    printf("TIOCPKT %s\n", error(ioctl(master, TIOCPKT, &on)));
    put(slave, "data");
    show("master", master, 100);
    tcflush(slave, TCIOFLUSH);
    printf("poll %#x\n", readiness(master));
    show("flushed", master, 100);
    put(master, "\x13");
    show("stopped", master, 100);
    put(master, "\x11");
    show("started", master, 100);
    struct termios termios;
    tcgetattr(slave, &termios);
    termios.c_iflag &= ~IXON;
    tcsetattr(slave, TCSANOW, &termios);
    show("no flow control", master, 100);
    close(slave);
    close(master);
}

static void edges(void) {
    puts("-- epoll");
    int master = open_master(), slave = open_slave(master, O_NOCTTY), queue = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = slave};
    epoll_ctl(queue, EPOLL_CTL_ADD, slave, &event);
    printf("before %d\n", epoll_wait(queue, &event, 1, 0));
    put(master, "no line yet");
    printf("without a line %d\n", epoll_wait(queue, &event, 1, 0));
    put(master, "\n");
    printf("with one %d\n", epoll_wait(queue, &event, 1, 5000));
    printf("once %d\n", epoll_wait(queue, &event, 1, 0));
    put(master, "another\n");
    printf("again %d\n", epoll_wait(queue, &event, 1, 5000));
    close(master);
    printf("hang-up %d", epoll_wait(queue, &event, 1, 5000));
    printf(" %#x\n", event.events);
    close(slave);
    close(queue);
}

static volatile sig_atomic_t counts[65];
static void count(int signal) { counts[signal]++; }

static void await(int signal) {
    for (int i = 0; i < 5000 && !counts[signal]; i++) usleep(1000);
    printf("%s %s\n", sigabbrev_np(signal), counts[signal] ? "came" : "did not come");
    counts[signal] = 0;
}

static void handle(int signal) {
    struct sigaction action = {.sa_handler = count};
    sigaction(signal, &action, NULL);
}

static void in_session(void (*body)(int, int)) {
    int master = open_master();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        int slave = open_slave(master, 0);
        body(master, slave);
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(leader, &status, 0);
    printf("status %#x\n", status);
    close(master);
}

static void control(int master, int slave) {
    puts("-- a session and its terminal");
    pid_t self = getpid();
    int number = -1;
    printf("TIOCGSID %d, tcgetpgrp %d\n", tcgetsid(slave) == self, tcgetpgrp(slave) == self);
    printf("by the master %d %d\n", tcgetsid(master) == self, tcgetpgrp(master) == self);
    int terminal = open("/dev/tty", O_RDWR);
    struct stat by_fd;
    fstat(terminal, &by_fd);
    printf("/dev/tty %s %u:%u, %d\n", error(terminal), major(by_fd.st_rdev), minor(by_fd.st_rdev), tcgetpgrp(terminal) == self);
    put(terminal, "through tty\n");
    show("master", master, 100);
    handle(SIGINT), handle(SIGQUIT), handle(SIGTSTP), handle(SIGWINCH), handle(SIGHUP), handle(SIGCONT);
    put(master, "lost\x03");
    await(SIGINT);
    show("echo", master, 100);
    put(master, "\x1c"), await(SIGQUIT);
    put(master, "\x1a"), await(SIGTSTP);
    show("echo", master, 100);
    struct winsize size = {.ws_row = 33, .ws_col = 44};
    ioctl(master, TIOCSWINSZ, &size), await(SIGWINCH);
    memset(&size, 0, sizeof size);
    ioctl(slave, TIOCGWINSZ, &size);
    printf("%d rows, %d columns\n", size.ws_row, size.ws_col);
    ioctl(slave, TIOCSWINSZ, &size);
    printf("the same size again: %d\n", counts[SIGWINCH]);
    int other = open_master(), unused = open_slave(other, 0);
    printf("another's foreground %s, TIOCSCTTY %s\n", error(tcgetpgrp(unused)), error(ioctl(unused, TIOCSCTTY, 0)));
    printf("TIOCNOTTY of another %s\n", error(ioctl(unused, TIOCNOTTY)));
    printf("tcsetpgrp: no such group %s, negative %s\n", error(tcsetpgrp(slave, 30000)), error(tcsetpgrp(slave, -1)));
    char stat[512] = {0};
    int file = open("/proc/self/stat", O_RDONLY);
    (void)!read(file, stat, sizeof stat - 1);
    int tty = -1, group = -1;
    sscanf(strrchr(stat, ')') + 2, "%*c %*d %*d %*d %d %d", &tty, &group);
    fstat(slave, &by_fd);
    printf("/proc/self/stat %d %d\n", tty == (int)by_fd.st_rdev, group == self);
    fflush(stdout);
    if (fork() == 0) {
        setsid();
        printf("another session: /dev/tty %s, TIOCSCTTY %s\n", error(open("/dev/tty", O_RDWR)), error(ioctl(slave, TIOCSCTTY, 0)));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    printf("TIOCNOTTY %s\n", error(ioctl(slave, TIOCNOTTY)));
    await(SIGHUP), await(SIGCONT);
    printf("/dev/tty %s, TIOCGSID %s\n", error(open("/dev/tty", O_RDWR)), error(ioctl(master, TIOCGSID, &number)));
    printf("TIOCSCTTY %s\n", error(ioctl(slave, TIOCSCTTY, 0)));
}

static int stopped_by(pid_t child) {
    int status = 0;
    waitpid(child, &status, WUNTRACED);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -status;
}

static pid_t in_background(int slave, void (*body)(int)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        body(slave);
        fflush(stdout);
        _exit(7);
    }
    setpgid(child, child);
    return child;
}

static void read_once(int slave) { show_read("background", slave, 100); }
static void write_once(int slave) { put(slave, "from the background\n"); }
static void change(int slave) {
    struct termios termios;
    tcgetattr(slave, &termios);
    printf("tcsetattr %s\n", error(tcsetattr(slave, TCSANOW, &termios)));
}
static void read_ignoring(int slave) {
    signal(SIGTTIN, SIG_IGN);
    show_read("SIGTTIN ignored", slave, 100);
}
static void take(int slave) {
    signal(SIGTTOU, SIG_IGN);
    printf("tcsetpgrp %s\n", error(tcsetpgrp(slave, getpgrp())));
}

static void jobs(int master, int slave) {
    puts("-- job control");
    signal(SIGTTOU, SIG_IGN);
    put(master, "a line\n");
    show("echo", master, 100);
    pid_t child = in_background(slave, read_once);
    printf("reading stops with %d\n", stopped_by(child));
    tcsetpgrp(slave, child);
    kill(-child, SIGCONT);
    printf("then ends with %d\n", stopped_by(child));
    tcsetpgrp(slave, getpgrp());
    child = in_background(slave, write_once);
    printf("writing ends with %d\n", stopped_by(child));
    show("written", master, 100);
    struct termios termios;
    tcgetattr(slave, &termios);
    termios.c_lflag |= TOSTOP;
    tcsetattr(slave, TCSANOW, &termios);
    signal(SIGTTOU, SIG_DFL);
    child = in_background(slave, write_once);
    printf("with TOSTOP it stops with %d\n", stopped_by(child));
    kill(-child, SIGKILL);
    stopped_by(child);
    child = in_background(slave, change);
    printf("changing stops with %d\n", stopped_by(child));
    kill(-child, SIGKILL);
    stopped_by(child);
    child = in_background(slave, read_ignoring);
    printf("ignoring ends with %d\n", stopped_by(child));
    child = in_background(slave, take);
    printf("taking the foreground ends with %d\n", stopped_by(child));
    printf("nobody is in the foreground: %d\n", tcgetpgrp(slave) == child);
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(slave, getpgrp());
    child = in_background(slave, (void (*)(int))sleep);
    tcsetpgrp(slave, child);
    put(master, "\x1a");
    printf("^Z stops with %d\n", stopped_by(child));
    kill(-child, SIGCONT);
    put(master, "\x03");
    printf("^C ends with %d\n", stopped_by(child));
    // The leader ends: who is in the foreground hears of it.
    child = in_background(slave, (void (*)(int))sleep);
    tcsetpgrp(slave, child);
}

static void orphan(int master, int slave) {
    puts("-- an orphaned group");
    int go[2];
    (void)!pipe(go);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        if (fork() == 0) {
            char byte;
            close(go[1]);
            (void)!read(go[0], &byte, 1);
            // Its parent has ended: nobody could continue it, so it is not stopped.
            show_read("reading", slave, 100);
            fflush(stdout);
            put(master, "done\n");
            _exit(0);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(go[0]);
    close(go[1]);
    show("it says", slave, 100);
}

static void hangup(int master, int slave) {
    puts("-- hang-up");
    handle(SIGHUP), handle(SIGCONT);
    pid_t parent = getppid();
    close(master);
    // The other copies of the master are the parent's.
    kill(parent, SIGUSR1);
    await(SIGHUP), await(SIGCONT);
    printf("/dev/tty %s\n", error(open("/dev/tty", O_RDWR)));
    show("slave", slave, 10);
    printf("tcgetpgrp %s\n", error(tcgetpgrp(slave)));
}

static int to_close;
static void close_it(int signal) { close(to_close); }

int main(void) {
    alarm(60);
    names();
    ends();
    timed();
    settings();
    packets();
    edges();
    in_session(control);
    in_session(jobs);
    in_session(orphan);
    int master = open_master();
    to_close = master;
    struct sigaction action = {.sa_handler = close_it, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        hangup(master, open_slave(master, 0));
        fflush(stdout);
        _exit(0);
    }
    waitpid(leader, NULL, 0);
    return 0;
}
