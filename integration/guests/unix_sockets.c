// AF_UNIX, step by step: every step says what it gave, and the test compares what is said under runc and under Bulkhead.
// Numbers that depend on the kernel's bookkeeping (inodes, sizes of buffers) are not said.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(expr) say(#expr, (long)(expr))

static void say(const char *what, long value) {
    if (value == -1) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, value);
    fflush(stdout);
}

static volatile int pipes;
static void on_pipe(int signal) { pipes++; }

static struct sockaddr_un address(const char *path, socklen_t *length) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    // "@name" is abstract.
    memcpy(un.sun_path, path, strlen(path));
    *length = offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] != '@');
    if (path[0] == '@') un.sun_path[0] = 0;
    return un;
}

static int binds(int fd, const char *path) {
    socklen_t length;
    struct sockaddr_un un = address(path, &length);
    return bind(fd, (struct sockaddr *)&un, length);
}

static int connects(int fd, const char *path) {
    socklen_t length;
    struct sockaddr_un un = address(path, &length);
    return connect(fd, (struct sockaddr *)&un, length);
}

static long sends_to(int fd, const char *text, const char *path) {
    socklen_t length;
    struct sockaddr_un un = address(path, &length);
    return sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&un, length);
}

static void name(const char *what, int fd, int peer) {
    struct sockaddr_un un;
    memset(&un, 'x', sizeof un);
    socklen_t length = sizeof un;
    int got = peer ? getpeername(fd, (void *)&un, &length) : getsockname(fd, (void *)&un, &length);
    if (got) { printf("%s: %s\n", what, strerrorname_np(errno)); return; }
    int n = (int)length - 2;
    printf("%s: family %d length %d ", what, un.sun_family, (int)length);
    for (int i = 0; i < n; i++) printf(un.sun_path[i] ? "%c" : "\\0", un.sun_path[i]);
    printf("\n");
}

static void text(const char *what, int fd, size_t size, int flags) {
    char buffer[4096];
    long n = recv(fd, buffer, size, flags);
    if (n < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld <%.*s>\n", what, n, (int)(n < (long)size ? n : (long)size), buffer);
}

static void ready(const char *what, int fd) {
    struct pollfd poll_fd = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
    int n = poll(&poll_fd, 1, 0);
    printf("%s: %d%s%s%s%s%s\n", what, n, poll_fd.revents & POLLIN ? " IN" : "", poll_fd.revents & POLLOUT ? " OUT" : "",
           poll_fd.revents & POLLRDHUP ? " RDHUP" : "", poll_fd.revents & POLLHUP ? " HUP" : "",
           poll_fd.revents & POLLERR ? " ERR" : "");
}

static void events(const char *what, int set) {
    struct epoll_event event[4];
    int n = epoll_wait(set, event, 4, 0);
    printf("%s: %d", what, n);
    for (int i = 0; i < n; i++) printf(" %d:%x", event[i].data.fd, event[i].events);
    printf("\n");
}

static void watch(int set, int fd, int tag, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = tag};
    SAY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

static int number(int fd, int option) {
    int value = -7;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) ? -errno : value;
}

static int sets(int fd, int option, int value) { return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value); }

static long give(int fd, const char *bytes, const int *fds, int count, int room) {
    char control[CMSG_SPACE(300 * sizeof(int))] = {0};
    struct iovec iov = {(void *)bytes, strlen(bytes)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(item), fds, count * sizeof(int));
    }
    return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static long give_identity(int fd, int pid, int uid, int gid) {
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec iov = {"id", 2};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_CREDENTIALS;
    item->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred identity = {pid, uid, gid};
    memcpy(CMSG_DATA(item), &identity, sizeof identity);
    return sendmsg(fd, &header, MSG_DONTWAIT);
}

// Receives with so much room for ancillary data, and says what came; the files are kept in `got`.
static int got[300], got_count;
static long take(const char *what, int fd, size_t size, size_t room, int flags) {
    char bytes[256] = {0}, control[2048];
    memset(control, 0x55, sizeof control);
    struct sockaddr_un from;
    struct iovec iov = {bytes, size};
    struct msghdr header = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1,
                            .msg_control = room ? control : NULL, .msg_controllen = room};
    long n = recvmsg(fd, &header, flags | MSG_DONTWAIT);
    if (n < 0) { printf("%s: %s\n", what, strerrorname_np(errno)); return n; }
    printf("%s: %ld <%s> name %d control %zu flags%s%s%s%s", what, n, bytes, (int)header.msg_namelen, header.msg_controllen,
           header.msg_flags & MSG_TRUNC ? " TRUNC" : "", header.msg_flags & MSG_CTRUNC ? " CTRUNC" : "",
           header.msg_flags & MSG_EOR ? " EOR" : "", header.msg_flags & MSG_CMSG_CLOEXEC ? " CLOEXEC" : "");
    got_count = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item)) {
        printf(" [%d %d %zu", item->cmsg_level, item->cmsg_type, (size_t)item->cmsg_len);
        if (item->cmsg_type == SCM_RIGHTS) {
            int count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(got, CMSG_DATA(item), count * sizeof(int));
            got_count = count;
            for (int i = 0; i < count; i++) printf(" %s%s", fcntl(got[i], F_GETFL) >= 0 ? "open" : "?", fcntl(got[i], F_GETFD) ? "!" : "");
        } else if (item->cmsg_type == SCM_CREDENTIALS && item->cmsg_len == CMSG_LEN(sizeof(struct ucred))) {
            struct ucred identity;
            memcpy(&identity, CMSG_DATA(item), sizeof identity);
            printf(" %s %d %d", identity.pid == getpid() ? "me" : identity.pid ? "other" : "nobody", identity.uid, identity.gid);
        }
        printf("]");
    }
    printf("\n");
    return n;
}

static void drop(void) {
    for (int i = 0; i < got_count; i++) close(got[i]);
    got_count = 0;
}

static void pair(int kind, int fds[2]) {
    if (socketpair(AF_UNIX, kind, 0, fds)) { perror("socketpair"); exit(1); }
}

static void makes(void) {
    printf("-- making\n");
    int fds[2];
    SAY(socketpair(AF_UNIX, SOCK_STREAM | 0x1000, 0, fds));
    SAY(socket(AF_UNIX, SOCK_STREAM, 5));
    SAY(socket(AF_UNIX, SOCK_RDM, 0));
    SAY(socket(AF_UNIX, 12, 0));
    SAY(socket(-1, SOCK_STREAM, 0));
    SAY(socket(99, SOCK_STREAM, 0));
    SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)8));
    int raw = socket(AF_UNIX, SOCK_RAW, 1);
    printf("raw is %d\n", number(raw, SO_TYPE));
    close(raw);
    pair(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, fds);
    SAY(fcntl(fds[0], F_GETFD));
    SAY(fcntl(fds[1], F_GETFL) & (O_NONBLOCK | O_ACCMODE));
    struct stat status;
    SAY(fstat(fds[0], &status));
    printf("mode %o size %ld\n", status.st_mode, (long)status.st_size);
    char link[64], path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    long n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    printf("link %.8s and the inode %s\n", link, atoi(link + 8) == (int)status.st_ino ? "agrees" : "differs");
    SAY(open(path, O_RDWR));
    SAY(lseek(fds[0], 0, SEEK_CUR));
    SAY(pread(fds[0], link, 1, 0));
    SAY(pwrite(fds[0], "x", 1, 0));
    SAY(ftruncate(fds[0], 0));
    SAY(fsync(fds[0]));
    SAY(ioctl(fds[0], 0x5401, link));
    SAY(isatty(fds[0]) - 1);
    printf("domain %d protocol %d type %d listens %d error %d\n", number(fds[0], SO_DOMAIN), number(fds[0], SO_PROTOCOL),
           number(fds[0], SO_TYPE), number(fds[0], SO_ACCEPTCONN), number(fds[0], SO_ERROR));
    close(fds[0]), close(fds[1]);
    int file = open("/dev/null", O_RDWR);
    SAY(listen(file, 1));
    SAY(send(file, "x", 1, 0));
    SAY(accept(-1, NULL, NULL));
    SAY(send(99, "x", 1, 0));
    close(file);
}

static void streams(void) {
    printf("-- streams\n");
    int fds[2];
    pair(SOCK_STREAM, fds);
    name("own name", fds[0], 0);
    name("peer name", fds[0], 1);
    ready("fresh", fds[0]);
    text("nothing yet", fds[1], 10, MSG_DONTWAIT);
    SAY(send(fds[0], "hello ", 6, 0));
    SAY(write(fds[0], "world", 5));
    ready("filled", fds[1]);
    int waiting;
    SAY(ioctl(fds[1], FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    text("peek", fds[1], 8, MSG_PEEK);
    text("peek all", fds[1], 80, MSG_PEEK);
    text("some", fds[1], 3, 0);
    text("rest", fds[1], 80, 0);
    SAY(send(fds[0], "", 0, 0));
    text("after nothing", fds[1], 10, MSG_DONTWAIT);
    SAY(read(fds[1], &waiting, 0));
    SAY(send(fds[0], "x", 1, MSG_OOB) * 0);
    while (recv(fds[1], &waiting, 1, MSG_DONTWAIT) > 0);
    SAY(sends_to(fds[0], "x", "/tmp/nobody"));
    text("trunc has no meaning", (send(fds[0], "abcdef", 6, 0), fds[1]), 3, MSG_TRUNC);
    text("what is left", fds[1], 30, 0);

    struct timeval time = {0, 50000};
    SAY(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    text("after a time-out", fds[0], 5, 0);
    write(fds[1], "ab", 2);
    text("part of what all was asked for", fds[0], 5, MSG_WAITALL);
    time.tv_usec = 2000000;
    SAY(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    SAY(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &time, 8));

    SAY(fcntl(fds[0], F_SETFL, O_NONBLOCK));
    char block[4096];
    memset(block, 'b', sizeof block);
    long total = 0, n;
    while ((n = write(fds[0], block, sizeof block)) > 0) total += n;
    printf("full: %s, a lot is in it: %d\n", strerrorname_np(errno), total > 100000 && total < 400000);
    ready("full writer", fds[0]);
    ready("full reader", fds[1]);
    long back = 0;
    while ((n = recv(fds[1], block, sizeof block, MSG_DONTWAIT)) > 0) back += n;
    printf("all came: %d\n", back == total);
    ready("empty again", fds[0]);

    SAY(shutdown(fds[0], 5));
    SAY(write(fds[0], "last", 4));
    SAY(shutdown(fds[0], SHUT_WR));
    ready("shut for writing", fds[0]);
    ready("its peer", fds[1]);
    text("last bytes", fds[1], 10, 0);
    text("end", fds[1], 10, 0);
    SAY(write(fds[0], "x", 1));
    printf("pipes %d\n", pipes);
    SAY(send(fds[0], "x", 1, MSG_NOSIGNAL));
    printf("pipes %d\n", pipes);
    SAY(write(fds[1], "back", 4));
    text("the other way", fds[0], 10, 0);
    SAY(shutdown(fds[0], SHUT_RD));
    ready("shut", fds[0]);
    ready("its peer", fds[1]);
    text("end", fds[0], 10, 0);
    SAY(write(fds[1], "x", 1));
    printf("pipes %d\n", pipes);
    close(fds[0]), close(fds[1]);

    pair(SOCK_STREAM, fds);
    write(fds[0], "unread", 6);
    write(fds[1], "for the closed", 14);
    close(fds[0]);
    ready("peer closed with unread data", fds[1]);
    text("what came before", fds[1], 3, 0);
    text("more of it", fds[1], 30, 0);
    text("then", fds[1], 30, 0);
    text("then", fds[1], 30, 0);
    ready("after the error", fds[1]);
    name("peer name after it closed", fds[1], 1);
    SAY(write(fds[1], "x", 1));
    close(fds[1]);

    pair(SOCK_STREAM, fds);
    close(fds[0]);
    ready("peer closed", fds[1]);
    text("end", fds[1], 3, 0);
    printf("error %d\n", number(fds[1], SO_ERROR));
    close(fds[1]);
}

static void messages(int kind, const char *what) {
    printf("-- messages: %s\n", what);
    int fds[2];
    pair(kind, fds);
    ready("fresh", fds[0]);
    SAY(send(fds[0], "first", 5, 0));
    SAY(send(fds[0], "", 0, 0));
    SAY(send(fds[0], "third", 5, MSG_EOR));
    int waiting;
    SAY(ioctl(fds[1], FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    text("peek", fds[1], 2, MSG_PEEK);
    text("peek with its length", fds[1], 2, MSG_PEEK | MSG_TRUNC);
    take("cut", fds[1], 2, 0, 0);
    take("empty", fds[1], 20, 0, 0);
    take("whole", fds[1], 20, 0, 0);
    take("none", fds[1], 20, 0, 0);
    SAY(send(fds[0], "abcdefgh", 8, 0));
    text("cut, with its length", fds[1], 3, MSG_TRUNC);
    char *large = calloc(1, 1 << 20);
    SAY(send(fds[0], large, 1 << 20, 0));
    SAY(send(fds[0], large, 100000, 0));
    SAY(recv(fds[1], large, 1 << 20, 0));
    SAY(send(fds[0], (void *)8, 10, 0));
    text("nothing of a fault", fds[1], 10, MSG_DONTWAIT);
    struct iovec iov[3] = {{"a", 1}, {"bc", 2}, {"def", 3}};
    SAY(writev(fds[0], iov, 3));
    text("gathered", fds[1], 10, 0);
    struct mmsghdr many[3] = {{{.msg_iov = iov, .msg_iovlen = 1}}, {{.msg_iov = iov + 1, .msg_iovlen = 1}}, {{.msg_iov = iov + 2, .msg_iovlen = 1}}};
    SAY(sendmmsg(fds[0], many, 3, 0));
    printf("lengths %d %d %d\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    char bytes[4][8] = {{0}};
    struct iovec into[4];
    struct mmsghdr received[4] = {0};
    for (int i = 0; i < 4; i++) into[i] = (struct iovec){bytes[i], 8}, received[i].msg_hdr.msg_iov = into + i, received[i].msg_hdr.msg_iovlen = 1;
    SAY(recvmmsg(fds[1], received, 4, MSG_WAITFORONE, NULL));
    printf("%d <%s> %d <%s> %d <%s>\n", received[0].msg_len, bytes[0], received[1].msg_len, bytes[1], received[2].msg_len, bytes[2]);
    SAY(recvmmsg(fds[1], received, 4, MSG_DONTWAIT, NULL));
    SAY(shutdown(fds[0], SHUT_WR));
    ready("its peer", fds[1]);
    text("end", fds[1], 10, kind == SOCK_DGRAM ? MSG_DONTWAIT : 0);
    SAY(send(fds[0], "x", 1, 0));
    printf("pipes %d\n", pipes);
    send(fds[1], "unread", 6, 0);
    close(fds[0]);
    ready("peer closed", fds[1]);
    text("end", fds[1], 10, MSG_DONTWAIT);
    text("end", fds[1], 10, MSG_DONTWAIT);
    SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
    ready("after it was tried", fds[1]);
    SAY(send(fds[1], "x", 1, MSG_NOSIGNAL));
    close(fds[1]);
    free(large);
}

static void names(void) {
    printf("-- names\n");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    ready("unconnected", client);
    text("unconnected", client, 1, MSG_DONTWAIT);
    SAY(write(client, "x", 1));
    name("no peer", client, 1);
    SAY(listen(listener, 1));
    SAY(bind(listener, (void *)&un, 1));
    SAY(bind(listener, (void *)&un, 200));
    un.sun_family = AF_INET;
    SAY(bind(listener, (void *)&un, 20));
    un.sun_family = AF_UNIX;
    SAY(binds(listener, "/none/such"));
    SAY(binds(listener, "/etc/passwd"));
    umask(027);
    SAY(binds(listener, "/tmp/socket"));
    umask(022);
    SAY(binds(listener, "/tmp/again"));
    name("bound", listener, 0);
    struct stat status;
    SAY(stat("/tmp/socket", &status));
    printf("mode %o links %d\n", status.st_mode, (int)status.st_nlink);
    SAY(open("/tmp/socket", O_RDWR));
    SAY(connects(client, "/tmp/socket"));
    SAY(connects(client, "/tmp/none"));
    SAY(connects(client, "/etc/passwd"));
    SAY(accept(listener, NULL, NULL));
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(binds(other, "/tmp/socket"));
    SAY(listen(listener, 1));
    ready("listening", listener);
    printf("listens %d\n", number(listener, SO_ACCEPTCONN));
    SAY(connects(listener, "/tmp/socket"));
    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    SAY(connects(datagram, "/tmp/socket"));
    SAY(sends_to(datagram, "x", "/tmp/socket"));
    SAY(listen(datagram, 1));
    close(datagram);
    text("from a listener", listener, 1, MSG_DONTWAIT);
    int waiting;
    SAY(ioctl(listener, FIONREAD, &waiting));

    SAY(fcntl(listener, F_SETFL, O_NONBLOCK));
    SAY(accept(listener, NULL, NULL));
    SAY(connects(client, "/tmp/socket"));
    SAY(connects(client, "/tmp/socket"));
    ready("a connection waits", listener);
    ready("connected", client);
    SAY(write(client, "early", 5));
    socklen_t length = sizeof un;
    int server = accept4(listener, (void *)&un, &length, SOCK_CLOEXEC);
    printf("accepted %d, name %d, flags %d %d\n", server > 0, (int)length, fcntl(server, F_GETFD), fcntl(server, F_GETFL) & O_NONBLOCK);
    name("server", server, 0);
    name("server's peer", server, 1);
    name("client", client, 0);
    name("client's peer", client, 1);
    text("sent before it was accepted", server, 10, 0);
    char from[64];
    length = sizeof un;
    write(server, "hi", 2);
    SAY(recvfrom(client, from, sizeof from, 0, (void *)&un, &length));
    printf("from <%s> %d\n", length > 2 ? un.sun_path : "", (int)length);
    SAY(binds(client, "@abstract"));
    name("server's peer", server, 1);
    close(client), close(server);

    // Two wait in a backlog of one; the third is told to try again.
    int clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        SAY(connects(clients[i], "/tmp/socket"));
    }
    SAY((server = accept(listener, NULL, NULL)) > 0);
    SAY(connects(clients[2], "/tmp/socket"));
    SAY(rename("/tmp/socket", "/tmp/moved"));
    close(other);
    other = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SAY(connects(other, "/tmp/socket"));
    SAY(connects(other, "/tmp/moved"));
    SAY(link("/tmp/moved", "/tmp/linked"));
    SAY(unlink("/tmp/moved"));
    SAY(symlink("linked", "/tmp/symbolic"));
    close(accept(listener, NULL, NULL));
    SAY(connects(other, "/tmp/symbolic"));
    name("listener", listener, 0);
    close(server);
    ready("accepted and closed", clients[0]);
    close(listener);
    ready("never accepted", clients[1]);
    text("never accepted", clients[1], 5, 0);
    text("never accepted", clients[1], 5, 0);
    close(other);
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(connects(other, "/tmp/linked"));
    SAY(binds(other, "/tmp/linked"));
    SAY(unlink("/tmp/linked"));
    SAY(binds(other, "/tmp/linked"));
    for (int i = 0; i < 3; i++) close(clients[i]);
    close(other);
    SAY(mknod("/tmp/node", S_IFSOCK | 0777, 0));
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(connects(other, "/tmp/node"));
    close(other);

    // fchmod before bind decides on the mode.
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(fchmod(other, 0640));
    SAY(binds(other, "/tmp/private"));
    SAY(stat("/tmp/private", &status));
    printf("mode %o\n", status.st_mode);
    close(other);

    other = socket(AF_UNIX, SOCK_DGRAM, 0);
    SAY(bind(other, (void *)&un, sizeof(sa_family_t)));
    length = sizeof un;
    getsockname(other, (void *)&un, &length);
    printf("automatic: length %d, first %d\n", (int)length, un.sun_path[0]);
    close(other);
}

static void abstracts(void) {
    printf("-- abstract names\n");
    int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    SAY(binds(a, "@name"));
    SAY(binds(b, "@name"));
    SAY(binds(c, "@name"));
    SAY(connects(b, "@name"));
    SAY(listen(a, 5));
    SAY(connects(b, "@nam"));
    SAY(connects(b, "@name"));
    name("peer", b, 1);
    close(a);
    ready("listener closed", b);
    a = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(binds(a, "@name"));
    close(a), close(b), close(c);

    FILE *table = fopen("/proc/net/unix", "r");
    char line[512];
    printf("table %s", table && fgets(line, sizeof line, table) ? line : "none\n");
    if (table) fclose(table);
}

static void datagrams(void) {
    printf("-- datagrams\n");
    int server = socket(AF_UNIX, SOCK_DGRAM, 0), client = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    SAY(binds(server, "/tmp/datagrams"));
    SAY(send(client, "x", 1, 0));
    SAY(sends_to(client, "unnamed", "/tmp/datagrams"));
    SAY(binds(client, "@client"));
    SAY(sends_to(client, "named", "/tmp/datagrams"));
    take("from nobody", server, 20, 0, 0);
    char bytes[32];
    struct sockaddr_un un = {0};
    socklen_t length = sizeof un;
    SAY(recvfrom(server, bytes, sizeof bytes, 0, (void *)&un, &length));
    printf("from %d @%s\n", (int)length, un.sun_path + 1);
    SAY(sendto(server, "back", 4, 0, (void *)&un, length));
    text("answer", client, 10, 0);
    SAY(connects(client, "/tmp/datagrams"));
    int sent = 0;
    while (send(client, "x", 1, 0) == 1) sent++;
    printf("sent %d then %s\n", sent, strerrorname_np(errno));
    ready("full", client);
    int set = epoll_create1(0);
    watch(set, client, 1, EPOLLOUT | EPOLLET);
    events("full", set);
    text("one", server, 5, 0);
    events("room", set);
    events("told", set);
    ready("room", client);
    close(set);
    int third = socket(AF_UNIX, SOCK_DGRAM, 0);
    SAY(connects(server, "@client"));
    SAY(sends_to(third, "x", "/tmp/datagrams"));
    SAY(connects(third, "/tmp/datagrams"));
    SAY(send(client, "x", 1, 0) > 0);
    un.sun_family = AF_UNSPEC;
    SAY(connect(server, (void *)&un, sizeof un));
    ready("its peer went away", client);
    printf("error %d\n", number(client, SO_ERROR));
    text("and what was sent is lost", server, 5, MSG_DONTWAIT);
    SAY(sends_to(third, "itself", "/tmp/none"));
    SAY(connects(third, "/tmp/datagrams"));
    close(server);
    SAY(send(third, "x", 1, 0));
    SAY(send(third, "x", 1, 0));
    name("disconnected", third, 1);
    SAY(sends_to(client, "x", "/tmp/datagrams"));
    SAY(sends_to(client, "to itself", "@client"));
    text("from itself", client, 20, 0);
    close(client), close(third);
}

static void rights(void) {
    printf("-- files\n");
    int fds[2], pipe_fds[2];
    pair(SOCK_STREAM, fds);
    pipe(pipe_fds);
    SAY(give(fds[0], "file", &pipe_fds[1], 1, 0));
    take("looked", fds[1], 20, 256, MSG_PEEK);
    drop();
    take("got", fds[1], 20, 256, 0);
    SAY(write(got[0], "through", 7));
    drop();
    text("pipe", (dup2(pipe_fds[0], 50), 50), 1, 0);
    char bytes[16] = {0};
    SAY(read(50, bytes, 10));
    close(50);
    int bad[2] = {pipe_fds[0], 77};
    SAY(give(fds[0], "bad", bad, 2, 0));
    int many[300];
    for (int i = 0; i < 300; i++) many[i] = pipe_fds[0];
    SAY(give(fds[0], "many", many, 254, 0));
    SAY(give(fds[0], "many", many, 253, 0));
    take("many", fds[1], 20, 2048, 0);
    drop();
    SAY(give(fds[0], "one", many, 3, 0));
    take("room for one", fds[1], 20, CMSG_SPACE(4), 0);
    drop();
    SAY(give(fds[0], "none", many, 3, 0));
    take("no room", fds[1], 20, 0, 0);
    SAY(give(fds[0], "short", many, 2, 0));
    take("short room", fds[1], 20, 18, 0);
    drop();
    SAY(give(fds[0], "closed", many, 1, 0));
    take("close on exec", fds[1], 20, 256, MSG_CMSG_CLOEXEC);
    drop();
    write(fds[0], "before ", 7);
    SAY(give(fds[0], "with ", many, 1, 0));
    write(fds[0], "after ", 6);
    SAY(give(fds[0], "second", many, 2, 0));
    take("up to the files", fds[1], 50, 256, 0);
    drop();
    take("next", fds[1], 3, 256, 0);
    take("next", fds[1], 6, 256, 0);
    drop();
    take("rest", fds[1], 50, 256, 0);
    drop();
    SAY(give(fds[0], "read", many, 1, 0));
    text("read drops them", fds[1], 20, 0);
    SAY(give(fds[0], "", many, 1, 0));
    take("nothing carries nothing", fds[1], 20, 256, 0);

    // A socket in its own queue, and two in each other's, are collected: the pipe's end closes.
    for (int round = 0; round < 3; round++) {
        int loop[2], ends[2], other[2];
        pair(round == 2 ? SOCK_DGRAM : SOCK_STREAM, loop);
        pair(SOCK_STREAM, other);
        pipe(ends);
        int both[2] = {loop[1], ends[1]}, across[2] = {round ? loop[0] : loop[1], round ? other[1] : ends[1]};
        give(loop[0], "loop", both, 2, 0);
        give(other[0], "loop", across, 2, 0);
        if (round) give(loop[0], "other", &other[1], 1, 0);
        close(loop[0]), close(loop[1]), close(other[0]), close(other[1]), close(ends[1]);
        // The collector runs at a close.
        close(socket(AF_UNIX, SOCK_STREAM, 0));
        struct pollfd end = {ends[0], POLLIN, 0};
        poll(&end, 1, 5000);
        printf("collected: %s\n", end.revents & POLLHUP ? "HUP" : "not");
        close(ends[0]);
    }
    // One that is deep in others' queues can still be reached.
    int outer[2], inner[2];
    pair(SOCK_STREAM, outer), pair(SOCK_STREAM, inner);
    give(inner[0], "pipe", &pipe_fds[1], 1, 0);
    give(outer[0], "inner", &inner[1], 1, 0);
    close(inner[0]), close(inner[1]);
    close(socket(AF_UNIX, SOCK_STREAM, 0));
    take("outer", outer[1], 20, 256, 0);
    int inside = got[0];
    take("inner", inside, 20, 256, 0);
    drop();
    close(inside), close(outer[0]), close(outer[1]);
    // Very deep ones are dropped one after the other.
    int last = dup(pipe_fds[0]);
    for (int i = 0; i < 20000; i++) {
        int link[2];
        pair(SOCK_STREAM, link);
        if (give(link[0], "x", &last, 1, 0) != 1) { perror("deep"); break; }
        close(last), close(link[0]);
        last = link[1];
    }
    SAY(close(last));
    close(fds[0]), close(fds[1]), close(pipe_fds[0]), close(pipe_fds[1]);
}

static void identities(void) {
    printf("-- identities\n");
    int fds[2];
    pair(SOCK_STREAM, fds);
    struct ucred peer;
    socklen_t length = sizeof peer;
    SAY(getsockopt(fds[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer %s %d %d\n", peer.pid == getpid() ? "me" : "other", peer.uid, peer.gid);
    take("not asked", (write(fds[0], "x", 1), fds[1]), 20, 256, 0);
    write(fds[0], "early", 5);
    SAY(sets(fds[1], SO_PASSCRED, 1));
    printf("passes %d %d\n", number(fds[1], SO_PASSCRED), number(fds[0], SO_PASSCRED));
    take("sent before", fds[1], 20, 256, 0);
    write(fds[0], "late", 4);
    take("sent after", fds[1], 20, 256, 0);
    SAY(give_identity(fds[0], getpid(), getuid(), getgid()));
    take("as itself", fds[1], 20, 256, 0);
    SAY(give_identity(fds[0], 1 << 20, 0, 0));
    SAY(give_identity(fds[0], getpid(), 1, 2));
    take("as another", fds[1], 20, 256, 0);
    write(fds[0], "mine", 4);
    give_identity(fds[0], getpid(), 1, 2);
    take("not mixed", fds[1], 20, 256, 0);
    take("not mixed", fds[1], 20, 256, 0);
    write(fds[0], "cut", 3);
    take("cut", fds[1], 20, 20, 0);
    int null = open("/dev/null", O_RDWR);
    give(fds[0], "both", &null, 1, 0);
    take("both", fds[1], 20, 256, 0);
    drop();
    pid_t child = fork();
    if (!child) { setgid(7); setuid(5); write(fds[0], "child", 5); give_identity(fds[0], getpid(), 0, 0) == -1 && write(fds[0], "refused", 7); _exit(0); }
    waitpid(child, NULL, 0);
    take("child", fds[1], 5, 256, 0);
    take("child", fds[1], 50, 256, 0);
    close(fds[0]), close(fds[1]);

    int server = socket(AF_UNIX, SOCK_DGRAM, 0), client = socket(AF_UNIX, SOCK_DGRAM, 0);
    binds(server, "@credentials");
    sets(client, SO_PASSCRED, 1);
    SAY(sends_to(client, "x", "@credentials"));
    struct sockaddr_un un;
    length = sizeof un;
    getsockname(client, (void *)&un, &length);
    printf("named by passing credentials: %d\n", (int)length);
    length = sizeof peer;
    SAY(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer of none %d %d %d\n", peer.pid, peer.uid, peer.gid);
    close(server), close(client), close(null);

    // Nobody may connect who may not write.
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    umask(0);
    binds(listener, "/tmp/guarded");
    umask(022);
    listen(listener, 5);
    for (int mode = 0; mode < 3; mode++) {
        chmod("/tmp/guarded", (int[]){0700, 0705, 0702}[mode]);
        fflush(stdout);
        child = fork();
        if (!child) {
            setgid(7), setuid(5);
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);
            SAY(connects(fd, "/tmp/guarded"));
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    int accepted = accept(listener, NULL, NULL);
    length = sizeof peer;
    SAY(getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer %s %d %d\n", peer.pid == child ? "child" : "other", peer.uid, peer.gid);
    close(accepted), close(listener);
}

static void edges(void) {
    printf("-- edges\n");
    int fds[2], set = epoll_create1(0);
    pair(SOCK_STREAM | SOCK_NONBLOCK, fds);
    watch(set, fds[0], 1, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    events("added", set);
    events("told", set);
    write(fds[1], "a", 1);
    events("a byte", set);
    events("told", set);
    write(fds[1], "b", 1);
    events("one more", set);
    char bytes[65536];
    read(fds[0], bytes, 1);
    events("read one", set);
    read(fds[0], bytes, 10);
    events("read all", set);
    write(fds[0], "c", 1);
    events("wrote", set);
    read(fds[1], bytes, 1);
    events("it was read", set);
    while (write(fds[0], bytes, sizeof bytes) > 0);
    events("full", set);
    read(fds[1], bytes, 10);
    events("hardly room", set);
    while (read(fds[1], bytes, sizeof bytes) > 0);
    events("room", set);
    events("told", set);
    shutdown(fds[1], SHUT_WR);
    events("half closed", set);
    events("told", set);
    close(fds[1]);
    events("closed", set);
    events("told", set);
    close(fds[0]);

    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    binds(listener, "@edges");
    listen(listener, 5);
    watch(set, listener, 2, EPOLLIN | EPOLLET);
    events("listening", set);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    watch(set, client, 3, EPOLLIN | EPOLLOUT | EPOLLET);
    events("unconnected", set);
    connects(client, "@edges");
    events("connected", set);
    int server = accept(listener, NULL, NULL);
    events("accepted", set);
    shutdown(client, SHUT_RDWR);
    events("shut", set);
    close(client), close(server), close(listener), close(set);
}

static int turn[2];
static void *late(void *what) {
    usleep(50000);
    switch ((long)what) {
    case 0: write(turn[1], "late", 4); break;
    case 1: close(turn[1]); break;
    case 2: { char bytes[65536]; for (int n, left = 1 << 20; left > 0 && (n = read(turn[1], bytes, sizeof bytes)) > 0;) left -= n; break; }
    case 3: shutdown(turn[0], SHUT_RDWR); break;
    case 4: write(turn[1], "ab", 2); usleep(50000); write(turn[1], "cde", 3); break;
    case 5: turn[1] = accept(turn[0], NULL, NULL); break;
    case 6: { char byte; recv(turn[1], &byte, 1, 0); break; }
    }
    return NULL;
}

static pthread_t later(long what) {
    pthread_t thread;
    pthread_create(&thread, NULL, late, (void *)what);
    return thread;
}

static void on_alarm(int signal) {}

static void waits(void) {
    printf("-- waiting\n");
    char *large = calloc(1, 1 << 20);
    pair(SOCK_STREAM, turn);
    pthread_t thread = later(0);
    text("comes late", turn[0], 10, 0);
    pthread_join(thread, NULL);
    thread = later(4);
    text("all of it", turn[0], 5, MSG_WAITALL);
    pthread_join(thread, NULL);
    thread = later(2);
    SAY(write(turn[0], large, 1 << 20));
    pthread_join(thread, NULL);
    thread = later(3);
    text("shut meanwhile", turn[0], 5, 0);
    pthread_join(thread, NULL);
    close(turn[0]), close(turn[1]);
    pair(SOCK_STREAM, turn);
    thread = later(1);
    text("closed meanwhile", turn[0], 5, 0);
    pthread_join(thread, NULL);
    close(turn[0]);
    pair(SOCK_SEQPACKET, turn);
    thread = later(1);
    text("closed meanwhile", turn[0], 5, 0);
    pthread_join(thread, NULL);
    close(turn[0]);
    pair(SOCK_STREAM, turn);
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value.tv_usec = 50000};
    setitimer(ITIMER_REAL, &timer, NULL);
    text("interrupted", turn[0], 5, 0);
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    thread = (setitimer(ITIMER_REAL, &timer, NULL), later(4));
    text("restarted", turn[0], 5, MSG_WAITALL);
    pthread_join(thread, NULL);
    struct timeval limit = {5, 0};
    setsockopt(turn[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setitimer(ITIMER_REAL, &timer, NULL);
    text("not restarted with a time-out", turn[0], 5, 0);
    limit = (struct timeval){0, 50000};
    setsockopt(turn[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    long sent = write(turn[0], large, 1 << 20);
    printf("a part within the time: %d\n", sent > 100000 && sent < 1 << 20);
    SAY(write(turn[0], large, 10));
    close(turn[0]), close(turn[1]);

    turn[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    binds(turn[0], "@patient");
    listen(turn[0], 0);
    int first = socket(AF_UNIX, SOCK_STREAM, 0), second = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(connects(first, "@patient"));
    thread = later(5);
    SAY(connects(second, "@patient"));
    pthread_join(thread, NULL);
    setsockopt(turn[1], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int hasty = socket(AF_UNIX, SOCK_STREAM, 0);
    setsockopt(hasty, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    SAY(connects(hasty, "@patient"));
    setsockopt(turn[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    SAY(accept(turn[0], NULL, NULL) > 0);
    SAY(accept(turn[0], NULL, NULL));
    close(first), close(second), close(hasty), close(turn[0]), close(turn[1]);

    turn[1] = socket(AF_UNIX, SOCK_DGRAM, 0);
    binds(turn[1], "@datagrams");
    int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    connects(sender, "@datagrams");
    while (send(sender, "x", 1, MSG_DONTWAIT) == 1);
    thread = later(6);
    SAY(send(sender, "late", 4, 0));
    pthread_join(thread, NULL);
    close(sender), close(turn[1]);
    free(large);
}

static void copies(void) {
    printf("-- copies without a buffer\n");
    int fds[2], pipe_fds[2];
    pair(SOCK_STREAM, fds);
    pipe(pipe_fds);
    int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    write(file, "contents of a file", 18);
    off_t offset = 0;
    SAY(sendfile(fds[0], file, &offset, 18));
    text("sent file", fds[1], 50, 0);
    SAY(sendfile(file, fds[1], NULL, 18));
    write(pipe_fds[1], "in a pipe", 9);
    SAY(splice(pipe_fds[0], NULL, fds[0], NULL, 100, 0));
    SAY(splice(fds[1], NULL, pipe_fds[1], NULL, 100, 0));
    text("spliced", (dup2(pipe_fds[0], 60), 60), 50, 0);
    char bytes[32] = {0};
    SAY(read(60, bytes, 32));
    printf("<%s>\n", bytes);
    SAY(splice(fds[1], NULL, pipe_fds[1], NULL, 100, SPLICE_F_NONBLOCK));
    close(fds[0]);
    SAY(splice(fds[1], NULL, pipe_fds[1], NULL, 100, 0));
    close(60), close(fds[1]), close(file), close(pipe_fds[0]), close(pipe_fds[1]);
}

static void options(void) {
    printf("-- options\n");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int i = 0; i < 3; i++) {
        int size = (int[]){1, 5000, 100000}[i];
        SAY(sets(fd, SO_SNDBUF, size));
        SAY(sets(fd, SO_RCVBUF, size));
        printf("%d %d\n", size < 100 ? number(fd, SO_SNDBUF) < 10000 : number(fd, SO_SNDBUF), size < 100 ? number(fd, SO_RCVBUF) < 10000 : number(fd, SO_RCVBUF));
    }
    int plain[] = {SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_PASSCRED, SO_TIMESTAMP};
    for (int i = 0; i < 6; i++) {
        int before = number(fd, plain[i]), set = sets(fd, plain[i], 5);
        printf("%d %d %d\n", before, set, number(fd, plain[i]));
    }
    struct linger linger = {1, 30};
    socklen_t length = sizeof linger;
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 4));
    SAY(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length));
    printf("linger %d %d length %d\n", linger.l_onoff, linger.l_linger, (int)length);
    struct timeval time = {3, 500000};
    SAY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    length = sizeof time, memset(&time, 0, sizeof time);
    SAY(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, &length));
    printf("%ld %ld\n", (long)time.tv_sec, (long)time.tv_usec);
    time = (struct timeval){1, 1000000};
    SAY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
    SAY(sets(fd, SO_TYPE, 1));
    SAY(sets(fd, 9999, 1));
    printf("%d\n", number(fd, 9999));
    SAY(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, "x", 1));
    SAY(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, (void *)8, 4));
    SAY(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &time, -1));
    SAY(setsockopt(fd, 6, 1, &time, 4));
    SAY(getsockopt(fd, 6, 1, &time, &length));
    char small[2];
    length = 2;
    SAY(getsockopt(fd, SOL_SOCKET, SO_TYPE, small, &length));
    printf("length %d, value %d\n", (int)length, small[0]);
    length = -1;
    SAY(getsockopt(fd, SOL_SOCKET, SO_TYPE, small, &length));
    printf("low %d\n", number(fd, SO_RCVLOWAT));
    SAY(sets(fd, SO_SNDLOWAT, 1));
    SAY(sets(fd, SO_MARK, 1) * 0);
    int owner = 0;
    SAY(fcntl(fd, F_SETOWN, getpid()));
    SAY(ioctl(fd, FIOGETOWN, &owner));
    printf("owner %s\n", owner == getpid() ? "me" : "other");
    int on = 1;
    SAY(ioctl(fd, FIONBIO, &on));
    SAY(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close(fd);
}

int main(void) {
    alarm(60);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, on_pipe);
    makes();
    streams();
    messages(SOCK_SEQPACKET, "sequenced packets");
    messages(SOCK_DGRAM, "datagrams");
    names();
    abstracts();
    datagrams();
    rights();
    identities();
    edges();
    waits();
    copies();
    options();
    printf("-- end\n");
}
