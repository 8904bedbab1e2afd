// UDP and ICMP sockets. Without arguments: what they do on loopback, told in lines that are compared with Linux's. With an address
// and a port: sends what it is given there, and prints what comes back.
#define _GNU_SOURCE
#include "inet.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void print_host(const char *what, const struct sockaddr_storage *all, socklen_t length) {
    char host[64];
    if (getnameinfo((const struct sockaddr *)all, length, host, sizeof host, NULL, 0, NI_NUMERICHOST)) strcpy(host, "?");
    printf("%s: %s length %u\n", what, host, length);
}

static int bound(int family, const char *host) {
    int fd = socket(family, SOCK_DGRAM, 0);
    socklen_t length;
    struct sockaddr_storage at = address_of(host, 0, &length);
    if (bind(fd, (struct sockaddr *)&at, length)) perror("bind");
    return fd;
}

static void *late_sender(void *argument) {
    int fd = *(int *)argument;
    usleep(50000);
    send(fd, "late", 4, 0);
    return NULL;
}

static void loopback(int family, const char *host) {
    printf("-- %s\n", host);
    int a = bound(family, host), b = bound(family, host);
    socklen_t length;
    struct sockaddr_storage to_b = address_of(host, port_of(b), &length), from;
    struct sockaddr_storage to_a = address_of(host, port_of(a), &length);
    char buffer[70000];
    struct pollfd poller = {b, POLLIN | POLLOUT, 0};
    SAY("poll of an empty socket", poll(&poller, 1, 0));
    printf("events %x\n", poller.revents);
    SAY("receive nothing", recv(b, buffer, sizeof buffer, MSG_DONTWAIT));
    SAY("send without a destination", send(a, "x", 1, 0));
    SAY("send", sendto(a, "hello", 5, 0, (struct sockaddr *)&to_b, length));
    SAY("send an empty one", sendto(a, "", 0, 0, (struct sockaddr *)&to_b, length));
    SAY("poll", poll(&poller, 1, 1000));
    printf("events %x\n", poller.revents);
    int waiting = -1;
    SAY("FIONREAD", ioctl(b, FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    SAY("peek", recv(b, buffer, 2, MSG_PEEK));
    SAY("peek with its length", recv(b, buffer, 2, MSG_PEEK | MSG_TRUNC));
    socklen_t room = sizeof from;
    SAY("receive", recvfrom(b, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &room));
    print_host("from", &from, room);
    printf("it is from the sender: %d\n", ((struct sockaddr_in *)&from)->sin_port == ((struct sockaddr_in *)&to_a)->sin_port);
    SAY("receive the empty one", recv(b, buffer, sizeof buffer, 0));
    SAY("nothing is left", recv(b, buffer, sizeof buffer, MSG_DONTWAIT));

    SAY("connect", connect(a, (struct sockaddr *)&to_b, length));
    room = sizeof from;
    SAY("peer", getpeername(a, (struct sockaddr *)&from, &room));
    print_host("peer", &from, room);
    memset(buffer, 7, sizeof buffer);
    SAY("send a long one", send(a, buffer, 60000, 0));
    SAY("receive its beginning", recv(b, buffer, 100, MSG_TRUNC));
    SAY("send one that is too long", send(a, buffer, 66000, 0));
    pthread_t thread;
    pthread_create(&thread, NULL, late_sender, &a);
    SAY("wait for one", recv(b, buffer, sizeof buffer, 0));
    pthread_join(thread, NULL);

    int set = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLET, {0}};
    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    SAY("edge: nothing", epoll_wait(set, &event, 1, 0));
    send(a, "1", 1, 0);
    SAY("edge: one", epoll_wait(set, &event, 1, 1000));
    SAY("edge: seen", epoll_wait(set, &event, 1, 0));
    send(a, "2", 1, 0);
    SAY("edge: another", epoll_wait(set, &event, 1, 1000));
    close(set);
    recv(b, buffer, sizeof buffer, 0);
    recv(b, buffer, sizeof buffer, 0);

    struct timeval patience = {0, 30000};
    SAY("set a time-out", setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
    SAY("time out", recv(b, buffer, sizeof buffer, 0));

    close(b);
    SAY("send to nobody", send(a, "x", 1, 0));
    SAY("hear of it", send(a, "x", 1, 0));
    int error = -1;
    room = sizeof error;
    SAY("SO_ERROR", getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &room));
    SAY("shutdown", shutdown(a, SHUT_WR));
    signal(SIGPIPE, SIG_IGN);
    SAY("send after it", send(a, "x", 1, MSG_NOSIGNAL));
    close(a);

    int c = bound(family, host), d = socket(family, SOCK_DGRAM, 0);
    struct sockaddr_storage again = address_of(host, port_of(c), &length);
    SAY("bind twice", bind(d, (struct sockaddr *)&again, length));
    SAY("bind again", bind(c, (struct sockaddr *)&again, length));
    int one = 1;
    setsockopt(c, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(d, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    SAY("bind with SO_REUSEADDR", bind(d, (struct sockaddr *)&again, length));
    close(c);
    close(d);
}

static void oddities(void) {
    printf("-- oddities\n");
    SAY("no such family", socket(AF_X25, SOCK_DGRAM, 0));
    SAY("no such protocol", socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    SAY("no such type", socket(AF_INET, SOCK_SEQPACKET, 0));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t length;
    struct sockaddr_storage elsewhere = address_of("192.0.2.1", 1, &length);
    SAY("bind to another's address", bind(fd, (struct sockaddr *)&elsewhere, length));
    SAY("bind to half an address", bind(fd, (struct sockaddr *)&elsewhere, 5));
    SAY("listen", listen(fd, 1));
    SAY("accept", accept(fd, NULL, NULL));
    SAY("peer of nobody", getpeername(fd, (struct sockaddr *)&elsewhere, &length));
    int value = -1;
    socklen_t room = sizeof value;
    getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &room);
    printf("IP_TTL %d\n", value);
    value = 300;
    SAY("a TTL of 300", setsockopt(fd, IPPROTO_IP, IP_TTL, &value, sizeof value));
    value = 9;
    SAY("a TTL of 9", setsockopt(fd, IPPROTO_IP, IP_TTL, &value, sizeof value));
    getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &room);
    printf("IP_TTL %d\n", value);
    room = sizeof value;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &room);
    printf("SO_TYPE %d\n", value);
    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &room);
    printf("SO_PROTOCOL %d\n", value);
    SAY("no such option", getsockopt(fd, SOL_SOCKET, 9999, &value, &room));
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    SAY("flags of lo", ioctl(fd, SIOCGIFFLAGS, &request));
    printf("flags %x\n", request.ifr_flags);
    SAY("address of lo", ioctl(fd, SIOCGIFADDR, &request));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    SAY("mask of lo", ioctl(fd, SIOCGIFNETMASK, &request));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    SAY("MTU of lo", ioctl(fd, SIOCGIFMTU, &request));
    printf("mtu %d\n", request.ifr_mtu);
    strcpy(request.ifr_name, "nope");
    SAY("flags of none", ioctl(fd, SIOCGIFFLAGS, &request));
    close(fd);
    int both = bound(AF_INET6, "::"), four = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_storage to = address_of("127.0.0.1", port_of(both), &length), from;
    char buffer[10];
    SAY("IPv4 to an IPv6 socket", sendto(four, "four", 4, 0, (struct sockaddr *)&to, length));
    room = sizeof from;
    SAY("it comes", recvfrom(both, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &room));
    print_host("from", &from, room);
    close(both);
    close(four);
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    struct icmphdr echo = {ICMP_ECHO};
    echo.un.echo.id = htons(77);
    unsigned sum = 0;
    for (unsigned i = 0; i < sizeof echo / 2; i++) sum += ((unsigned short *)&echo)[i];
    echo.checksum = ~((sum & 0xffff) + (sum >> 16));
    to = address_of("127.0.0.1", 0, &length);
    SAY("ping", sendto(raw, &echo, sizeof echo, 0, (struct sockaddr *)&to, length));
    unsigned char packet[200];
    do {
        memset(packet, 0, sizeof packet);
        if (recv(raw, packet, sizeof packet, 0) < 28) break;
    } while (packet[20] == ICMP_ECHO);
    printf("answer: type %d, id %d\n", packet[20], packet[24] << 8 | packet[25]);
    close(raw);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(60);
    if (count == 1) {
        loopback(AF_INET, "127.0.0.1");
        loopback(AF_INET6, "::1");
        oddities();
        return 0;
    }
    socklen_t length;
    struct sockaddr_storage to = address_of(arguments[1], atoi(arguments[2]), &length);
    int fd = socket(to.ss_family, SOCK_DGRAM, 0);
    if (connect(fd, (struct sockaddr *)&to, length)) return perror("connect"), 1;
    for (int i = 3; i < count; i++) {
        char buffer[2000];
        if (send(fd, arguments[i], strlen(arguments[i]), 0) < 0) return perror("send"), 1;
        struct pollfd poller = {fd, POLLIN, 0};
        if (poll(&poller, 1, 5000) != 1) return puts("no answer"), 1;
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got < 0) return perror("recv"), 1;
        printf("%.*s\n", (int)got, buffer);
    }
    return 0;
}
