// SPDX-License-Identifier: MIT
/*
 * Several packets for one system call, at the borders: a full socket, too long, descriptors, the end.
 */
#include "check.h"
#include "vmbus_packets.h"

#define ROOM 16

static void pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd))
        abort();
}

static void a_burst_arrives_in_order(void)
{
    char *buffer = malloc(ROOM * VMB_TAKE);
    struct vmb_datagram packets[VMB_BURST];
    char bytes[VMB_BURST];
    size_t sizes[VMB_TAKE];
    int flags[VMB_TAKE], fd[2], sent, came;

    pair(fd);
    for (unsigned i = 0; i < VMB_BURST; i++) {
        bytes[i] = (char)i;
        packets[i] = (struct vmb_datagram){&bytes[i], 1};
    }
    sent = vmb_send_packets(fd[0], packets, VMB_BURST);
    CHECK(sent > 0);
    for (int heard = 0; heard < sent; heard += came) {
        came = vmb_take_packets(fd[1], buffer, ROOM, sizes, flags);
        CHECK(came > 0);
        if (came <= 0)
            break;
        for (int i = 0; i < came; i++)
            CHECK(sizes[i] == 1 && buffer[i * ROOM] == (char)(heard + i));
    }
    CHECK(vmb_take_packets(fd[1], buffer, ROOM, sizes, flags) == 0);
    close(fd[0]);
    close(fd[1]);
    free(buffer);
}

static void a_full_socket_says_0(void)
{
    struct vmb_datagram packet = {"x", 1};
    int fd[2], sent = 0;

    pair(fd);
    while (sent < 100000 && vmb_send_packets(fd[0], &packet, 1) == 1)
        sent++;
    CHECK(sent > 0 && sent < 100000);
    CHECK(vmb_send_packets(fd[0], &packet, 1) == 0);
    close(fd[1]);
    CHECK(vmb_send_packets(fd[0], &packet, 1) < 0);
    CHECK(vmb_send_packets(fd[0], &packet, 1) == -EPIPE);
    close(fd[0]);
}

static void a_packet_that_is_too_long_stays_in_its_room(void)
{
    char *buffer = malloc(ROOM * VMB_TAKE); /* the sanitizer sees what leaves it */
    char large[ROOM + 1] = {0};
    size_t sizes[VMB_TAKE];
    int flags[VMB_TAKE], fd[2];

    pair(fd);
    for (int i = 0; i < 3; i++)
        CHECK(send(fd[0], large, ROOM + (i == 1), MSG_DONTWAIT) == ROOM + (i == 1));
    CHECK(vmb_take_packets(fd[1], buffer, ROOM, sizes, flags) == 3);
    for (int i = 0; i < 3; i++)
        CHECK(sizes[i] == ROOM && !(flags[i] & MSG_TRUNC) == (i != 1));
    close(fd[0]);
    close(fd[1]);
    free(buffer);
}

static void the_end_comes_once_and_last(void)
{
    char buffer[ROOM * VMB_TAKE];
    size_t sizes[VMB_TAKE];
    int flags[VMB_TAKE], fd[2];

    pair(fd);
    CHECK(send(fd[0], "ab", 2, MSG_DONTWAIT) == 2);
    close(fd[0]);
    CHECK(vmb_take_packets(fd[1], buffer, ROOM, sizes, flags) == 2);
    CHECK(sizes[0] == 2 && sizes[1] == 0);
    close(fd[1]);
    CHECK(vmb_take_packets(fd[1], buffer, ROOM, sizes, flags) == -EBADF);
}

static void packets_before_a_reset_come_first(void)
{
    char buffer[ROOM * VMB_TAKE];
    size_t sizes[VMB_TAKE];
    int flags[VMB_TAKE], fd[2];

    pair(fd);
    CHECK(send(fd[1], "unread", 6, MSG_DONTWAIT) == 6);
    CHECK(send(fd[0], "ab", 2, MSG_DONTWAIT) == 2);
    close(fd[0]);
    CHECK(vmb_take_packets(fd[1], buffer, ROOM, sizes, flags) == 2);
    CHECK(sizes[0] == 2 && sizes[1] == 0);
    close(fd[1]);
}

static const struct test tests[] = {
    {"a burst arrives in order, each packet by itself", a_burst_arrives_in_order},
    {"a full socket takes 0 packets, one without a peer is an error", a_full_socket_says_0},
    {"a packet that is too long is marked and stays in its room", a_packet_that_is_too_long_stays_in_its_room},
    {"the end of a link comes once, behind its packets", the_end_comes_once_and_last},
    {"so it does when the peer closed without reading ours", packets_before_a_reset_come_first},
};

int main(void) { return check_all(tests, sizeof tests / sizeof *tests); }
