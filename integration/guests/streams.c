// TCP. Without arguments: what it does on loopback, told in lines that are compared with Linux's. With an address, a port and a number:
// sends so many bytes there, ends its half, and sees the same bytes come back.
#define _GNU_SOURCE
#include "inet.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char byte_at(long place) {
    return (place * 2654435761u >> 13) ^ place;
}

struct flow {
    int fd;
    long bytes;
};

static void *sender(void *argument) {
    struct flow *flow = argument;
    static unsigned char buffer[50000];
    for (long done = 0; done < flow->bytes;) {
        long n = flow->bytes - done < (long)sizeof buffer ? flow->bytes - done : (long)sizeof buffer;
        for (long i = 0; i < n; i++) buffer[i] = byte_at(done + i);
        for (long part = 0; part < n;) {
            ssize_t sent = send(flow->fd, buffer + part, n - part, MSG_NOSIGNAL);
            if (sent <= 0) return perror("send"), NULL;
            part += sent;
        }
        done += n;
    }
    shutdown(flow->fd, SHUT_WR);
    return NULL;
}

// How many bytes came before the end, or where they were wrong.
static long receive_all(int fd) {
    static unsigned char buffer[70000];
    long done = 0;
    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got == 0) return done;
        if (got < 0) return perror("recv"), -1;
        for (ssize_t i = 0; i < got; i++)
            if (buffer[i] != byte_at(done + i)) return printf("wrong byte at %ld\n", done + i), -1;
        done += got;
    }
}

static int listener(int family, const char *host) {
    socklen_t length;
    struct sockaddr_storage at = address_of(host, 0, &length);
    int fd = socket(family, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, length) || listen(fd, 5)) perror("listen");
    return fd;
}

static void pair(int family, const char *host, int *client, int *server) {
    int listening = listener(family, host);
    socklen_t length;
    struct sockaddr_storage to = address_of(host, port_of(listening), &length);
    *client = socket(family, SOCK_STREAM, 0);
    if (connect(*client, (struct sockaddr *)&to, length)) perror("connect");
    *server = accept(listening, NULL, NULL);
    close(listening);
}

static void loopback(int family, const char *host) {
    printf("-- %s\n", host);
    int listening = listener(family, host);
    socklen_t length, room;
    struct sockaddr_storage to = address_of(host, port_of(listening), &length), from;
    struct pollfd poller = {listening, POLLIN | POLLOUT, 0};
    SAY("poll of a listener", poll(&poller, 1, 0));
    fcntl(listening, F_SETFL, O_NONBLOCK);
    SAY("accept nothing", accept(listening, NULL, NULL));
    int client = socket(family, SOCK_STREAM, 0);
    poller = (struct pollfd){client, POLLIN | POLLOUT | POLLRDHUP, 0};
    SAY("poll of an unconnected one", poll(&poller, 1, 0));
    printf("events %x\n", poller.revents);
    SAY("receive unconnected", recv(client, &room, 1, 0));
    SAY("send unconnected", send(client, "x", 1, MSG_NOSIGNAL));
    SAY("connect", connect(client, (struct sockaddr *)&to, length));
    SAY("connect again", connect(client, (struct sockaddr *)&to, length));
    poller = (struct pollfd){listening, POLLIN, 0};
    SAY("poll of the listener", poll(&poller, 1, 1000));
    room = sizeof from;
    int server = accept(listening, (struct sockaddr *)&from, &room);
    printf("accepted %d, length %u, from the client %d\n", server >= 0, room, ntohs(((struct sockaddr_in *)&from)->sin_port) == port_of(client));
    printf("the server's port is the listener's: %d\n", port_of(server) == port_of(listening));
    int flags = fcntl(server, F_GETFL);
    printf("non-blocking is not inherited: %d\n", !(flags & O_NONBLOCK));

    poller = (struct pollfd){client, POLLIN | POLLOUT | POLLRDHUP, 0};
    SAY("poll", poll(&poller, 1, 0));
    printf("events %x\n", poller.revents);
    SAY("send", send(server, "hello", 5, 0));
    poller.events = POLLIN | POLLRDHUP;
    SAY("poll", poll(&poller, 1, 1000));
    printf("events %x\n", poller.revents);
    int waiting = -1;
    SAY("FIONREAD", ioctl(client, FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    char buffer[100];
    SAY("peek", recv(client, buffer, 3, MSG_PEEK));
    SAY("receive", recv(client, buffer, sizeof buffer, 0));
    SAY("nothing is left", recv(client, buffer, sizeof buffer, MSG_DONTWAIT));
    SAY("writev and read", write(server, "one", 3) + write(server, "two", 3));
    SAY("wait for all", recv(client, buffer, 6, MSG_WAITALL));
    printf("%.6s\n", buffer);

    int set = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP | EPOLLET, {0}};
    epoll_ctl(set, EPOLL_CTL_ADD, client, &event);
    SAY("edge: nothing", epoll_wait(set, &event, 1, 0));
    send(server, "1", 1, 0);
    SAY("edge: one", epoll_wait(set, &event, 1, 1000));
    SAY("edge: seen", epoll_wait(set, &event, 1, 0));
    SAY("shutdown", shutdown(server, SHUT_WR));
    SAY("edge: the end", epoll_wait(set, &event, 1, 1000));
    printf("events %x\n", event.events);
    close(set);
    SAY("the last byte", recv(client, buffer, sizeof buffer, 0));
    SAY("the end", recv(client, buffer, sizeof buffer, 0));
    SAY("the end again", recv(client, buffer, sizeof buffer, 0));
    SAY("send against it", send(client, "back", 4, 0));
    SAY("it comes", recv(server, buffer, sizeof buffer, 0));
    SAY("send after shutdown", send(server, "x", 1, MSG_NOSIGNAL));
    close(client);
    SAY("the other end", recv(server, buffer, sizeof buffer, 0));
    close(server);

    long big = 6 << 20;
    pair(family, host, &client, &server);
    struct flow flow = {client, big};
    pthread_t thread;
    pthread_create(&thread, NULL, sender, &flow);
    SAY("a long stream", receive_all(server));
    pthread_join(thread, NULL);
    close(client);
    close(server);

    pair(family, host, &client, &server);
    fcntl(client, F_SETFL, O_NONBLOCK);
    long sent = 0;
    static char block[65536];
    for (ssize_t n; (n = send(client, block, sizeof block, 0)) > 0;) sent += n;
    printf("full: %s %d\n", strerrorname_np(errno), sent > 65536);
    poller = (struct pollfd){client, POLLOUT, 0};
    SAY("poll of a full one", poll(&poller, 1, 0));
    long got = 0;
    while (got < sent) {
        ssize_t n = recv(server, block, sizeof block, 0);
        if (n <= 0) break;
        got += n;
    }
    printf("all of it came: %d\n", got == sent);
    SAY("poll of an empty one", poll(&poller, 1, 2000));
    close(client);
    close(server);

    pair(family, host, &client, &server);
    send(client, "unread", 6, 0);
    poller = (struct pollfd){server, POLLIN, 0};
    poll(&poller, 1, 1000);
    close(server);
    poller = (struct pollfd){client, POLLIN, 0};
    SAY("poll after a reset", poll(&poller, 1, 1000));
    printf("events %x\n", poller.revents);
    SAY("receive after a reset", recv(client, buffer, sizeof buffer, 0));
    SAY("receive once more", recv(client, buffer, sizeof buffer, 0));
    SAY("send after a reset", send(client, "x", 1, MSG_NOSIGNAL));
    close(client);

    pair(family, host, &client, &server);
    struct linger linger = {1, 0};
    setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(server);
    SAY("receive after SO_LINGER's reset", recv(client, buffer, sizeof buffer, 0));
    close(client);

    close(listening);
    client = socket(family, SOCK_STREAM, 0);
    SAY("connect to nobody", connect(client, (struct sockaddr *)&to, length));
    close(client);
    client = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(client, (struct sockaddr *)&to, length);
    poller = (struct pollfd){client, POLLOUT, 0};
    SAY("poll after that", poll(&poller, 1, 1000));
    printf("events %x\n", poller.revents);
    int error = -1;
    room = sizeof error;
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &room);
    printf("SO_ERROR %s\n", strerrorname_np(error));
    close(client);

    pair(family, host, &client, &server);
    int value = -1;
    room = sizeof value;
    getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, &room);
    printf("TCP_NODELAY %d\n", value);
    value = 1;
    SAY("set it", setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, &room);
    printf("TCP_NODELAY %d\n", value);
    value = 60;
    SAY("TCP_KEEPIDLE", setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
    value = 0;
    SAY("TCP_KEEPIDLE 0", setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
    struct tcp_info info;
    room = sizeof info;
    getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &room);
    printf("TCP_INFO state %d\n", info.tcpi_state);
    struct timeval patience = {0, 30000};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    SAY("time out", recv(client, buffer, sizeof buffer, 0));
    pid_t child = fork();
    if (child == 0) {
        recv(server, buffer, sizeof buffer, 0);
        send(server, "from the child", 14, 0);
        _exit(0);
    }
    close(server);
    send(client, "?", 1, 0);
    patience.tv_sec = 5;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    SAY("a child answers", recv(client, buffer, sizeof buffer, 0));
    SAY("and its end is seen", recv(client, buffer, sizeof buffer, 0));
    waitpid(child, NULL, 0);
    close(client);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(60);
    if (count == 1) {
        loopback(AF_INET, "127.0.0.1");
        loopback(AF_INET6, "::1");
        return 0;
    }
    socklen_t length;
    struct sockaddr_storage to = address_of(arguments[1], atoi(arguments[2]), &length);
    int fd = socket(to.ss_family, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, length)) return perror("connect"), 1;
    struct flow flow = {fd, atol(arguments[3])};
    pthread_t thread;
    pthread_create(&thread, NULL, sender, &flow);
    printf("%ld bytes\n", receive_all(fd));
    pthread_join(thread, NULL);
    return 0;
}
