// What the guests that use sockets of the Internet families have in common.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

// Says what a call gave.
#define SAY(what, call)                                                                 \
    do {                                                                                \
        errno = 0;                                                                      \
        long result = (call);                                                           \
        printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : ""); \
    } while (0)

static struct sockaddr_storage address_of(const char *text, int port, socklen_t *length) {
    struct sockaddr_storage all;
    memset(&all, 0, sizeof all);
    if (strchr(text, ':')) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&all;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        inet_pton(AF_INET6, text, &v6->sin6_addr);
        *length = sizeof *v6;
    } else {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&all;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        inet_pton(AF_INET, text, &v4->sin_addr);
        *length = sizeof *v4;
    }
    return all;
}

static int port_of(int fd) {
    struct sockaddr_storage all;
    socklen_t length = sizeof all;
    getsockname(fd, (struct sockaddr *)&all, &length);
    return ntohs(((struct sockaddr_in *)&all)->sin_port);
}
