// SPDX-License-Identifier: MIT
/*
 * Both ends of the control benchmark that must not be Python.
 *
 *   echo serve CORE PATH            an epoll server on a SEQPACKET socket: every packet goes back
 *   echo load CORE N AT FIRST HEX FD...   N requests on each connected descriptor, one at a time per
 *                                   descriptor; the u32 at byte AT of the packet counts from FIRST:
 *                                   ns per request
 *
 * The load is the same for every server, so what differs is the server. An answer may be any packet; the end
 * of a connection, or nothing for LIMIT seconds, is an error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LIMIT 30
#define LARGEST 4096
#define EVENTS 64

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("sched_setaffinity");
}

static void watch(int epoll, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static _Noreturn void serve(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    int epoll = epoll_create1(0);
    struct epoll_event events[EVENTS];
    char packet[LARGEST];

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (listener < 0 || epoll < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, 128))
        fail(path);
    watch(epoll, listener, (uint64_t)listener);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = (int)events[i].data.u64;
            if (fd == listener) {
                int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (accepted >= 0)
                    watch(epoll, accepted, (uint64_t)accepted);
                continue;
            }
            ssize_t size = recv(fd, packet, sizeof packet, 0);
            if (size > 0 && send(fd, packet, (size_t)size, MSG_NOSIGNAL) == size)
                continue;
            if (size < 0 && errno == EAGAIN)
                continue;
            close(fd);
        }
    }
}

static unsigned unhex(const char *text, unsigned char *out)
{
    unsigned size = (unsigned)strlen(text) / 2;
    for (unsigned i = 0; i < size && i < LARGEST; i++)
        sscanf(text + 2 * i, "%2hhx", out + i);
    return size;
}

static int load(int core, unsigned count, unsigned at, uint32_t first, const char *hex, int n, char **fds)
{
    unsigned char packet[LARGEST], answer[LARGEST];
    unsigned size = unhex(hex, packet);
    unsigned *sent = calloc((size_t)n, sizeof *sent);
    int *fd = calloc((size_t)n, sizeof *fd);
    int epoll = epoll_create1(0), open = n;
    struct epoll_event events[EVENTS];
    struct timespec begun, ended;

    if (!sent || !fd || epoll < 0 || size > LARGEST || at + 4 > size)
        fail("load");
    pin(core);
    for (int i = 0; i < n; i++) {
        fd[i] = atoi(fds[i]);
        watch(epoll, fd[i], (uint64_t)i);
    }
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (int i = 0; i < n; i++) {
        memcpy(packet + at, &first, 4);
        sent[i] = 1;
        if (send(fd[i], packet, size, MSG_NOSIGNAL) != (ssize_t)size)
            fail("send");
    }
    while (open) {
        int ready = epoll_wait(epoll, events, EVENTS, LIMIT * 1000);
        if (ready <= 0)
            fail("no answer");
        for (int k = 0; k < ready; k++) {
            unsigned i = (unsigned)events[k].data.u64;
            ssize_t got = recv(fd[i], answer, sizeof answer, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0)
                fail("recv");
            if (sent[i] == count) {
                open--;
                continue;
            }
            uint32_t number = first + sent[i]++;
            memcpy(packet + at, &number, 4);
            if (send(fd[i], packet, size, MSG_NOSIGNAL) != (ssize_t)size)
                fail("send");
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double ns = (double)(ended.tv_sec - begun.tv_sec) * 1e9 + (double)(ended.tv_nsec - begun.tv_nsec);
    printf("%.1f\n", ns / (double)count / (double)n);
    return 0;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc == 4 && !strcmp(argv[1], "serve")) {
        pin(atoi(argv[2]));
        serve(argv[3]);
    }
    if (argc > 7 && !strcmp(argv[1], "load"))
        return load(atoi(argv[2]), (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]),
                    (uint32_t)strtoul(argv[5], NULL, 0), argv[6], argc - 7, argv + 7);
    fprintf(stderr, "echo serve CORE PATH | echo load CORE N AT FIRST HEX FD...\n");
    return 2;
}
