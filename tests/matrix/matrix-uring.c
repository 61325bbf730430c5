/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Python cannot do, for the cases of tests/matrix: io_uring's socket operations by the bare
 * system calls, and socket() by the numbers of other ABIs.
 *
 *     matrix-uring client ADDRESS PORT    socket(), then CONNECT, SEND and RECV by io_uring
 *     matrix-uring server PORT            socket(), listen(); "ready"; ACCEPT, SEND, RECV
 *     matrix-uring socket PORT            SOCKET makes a listener and its client, which meet
 *     matrix-uring reach ADDRESS PORT     SOCKET, CONNECT, SEND, RECV
 *     matrix-uring wait PORT              SOCKET, listen(); "ready"; ACCEPT, RECV, SEND
 *     matrix-uring x32 | int80            socket() of that ABI
 *     matrix-uring reach32 ADDRESS PORT   x32's socket(); connects, "hello" there and back
 *
 * Each prints one line for each operation: its name and what came of it.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IORING_OP_SOCKET
#define IORING_OP_SOCKET 45
#endif

#define X32_BIT 0x40000000

struct ring {
        int fd;
        unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
        struct io_uring_sqe *sqes;
        struct io_uring_cqe *cqes;
};

static const char *text_of(long r)
{
        return r < 0 ? strerrorname_np((int)-r) : "ok";
}

static int ring_open(struct ring *ret_ring)
{
        struct io_uring_params p = {0};
        struct ring ring = {.fd = -1};
        char *sq, *cq;

        ring.fd = (int)syscall(SYS_io_uring_setup, 4, &p);
        if (ring.fd < 0)
                return -errno;
        sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
        cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
                  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_CQ_RING);
        ring.sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
        if (sq == MAP_FAILED || cq == MAP_FAILED || ring.sqes == MAP_FAILED)
                return -ENOMEM; /* the process ends: nothing to give back */
        ring.sq_tail = (unsigned *)(sq + p.sq_off.tail);
        ring.sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
        ring.sq_array = (unsigned *)(sq + p.sq_off.array);
        ring.cq_head = (unsigned *)(cq + p.cq_off.head);
        ring.cq_tail = (unsigned *)(cq + p.cq_off.tail);
        ring.cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
        ring.cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
        *ret_ring = ring;
        return 0;
}

/* One operation, to its end. Its result, as the call of that name would have it: 0 or more, or
 * -errno. */
static int perform(struct ring *ring, const struct io_uring_sqe *sqe)
{
        unsigned tail, at, head;
        int result;

        assert(ring->sq_tail);
        tail = *ring->sq_tail;
        at = tail & *ring->sq_mask;
        ring->sqes[at] = *sqe;
        ring->sq_array[at] = at;
        __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
        if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
                return -errno;
        head = *ring->cq_head;
        if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
                return -EAGAIN;
        result = ring->cqes[head & *ring->cq_mask].res;
        __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
        return result;
}

static int ring_socket(struct ring *ring)
{
        return perform(
            ring, &(struct io_uring_sqe){
                      .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM, .len = 0});
}

static int ring_connect(struct ring *ring, int fd, const struct sockaddr_in *to)
{
        return perform(ring, &(struct io_uring_sqe){.opcode = IORING_OP_CONNECT,
                                                    .fd = fd,
                                                    .addr = (uintptr_t)to,
                                                    .off = sizeof(*to)});
}

static int ring_accept(struct ring *ring, int fd, struct sockaddr_in *ret_peer, socklen_t *size)
{
        return perform(ring, &(struct io_uring_sqe){.opcode = IORING_OP_ACCEPT,
                                                    .fd = fd,
                                                    .addr = (uintptr_t)ret_peer,
                                                    .addr2 = (uintptr_t)size});
}

static int ring_data(struct ring *ring, unsigned char op, int fd, const void *data, unsigned size)
{
        return perform(ring, &(struct io_uring_sqe){
                                 .opcode = op, .fd = fd, .addr = (uintptr_t)data, .len = size});
}

/* The conversation of both ends: five bytes out, five bytes in. */
static int talk(struct ring *ring, int fd, bool first)
{
        char buffer[16] = "";
        int sent = 0, got;

        if (first)
                sent = ring_data(ring, IORING_OP_SEND, fd, "hello", 5);
        got = ring_data(ring, IORING_OP_RECV, fd, buffer, 5);
        if (!first)
                sent = ring_data(ring, IORING_OP_SEND, fd, "hello", 5);
        printf("SEND %d\nRECV %s\n", sent, got < 0 ? text_of(got) : buffer);
        return sent == 5 && got == 5 ? 0 : -EIO;
}

static int client(struct ring *ring, int fd, const char *address, int port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int r;

        if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
                return -EINVAL;
        r = ring_connect(ring, fd, &to);
        printf("CONNECT %s\n", text_of(r));
        return r < 0 ? r : talk(ring, fd, true);
}

static int listener(int fd, int port)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

        if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
                return -errno;
        return 0;
}

static int server(struct ring *ring, int fd, int port)
{
        struct sockaddr_in peer = {0}, named = {0};
        socklen_t size = sizeof(peer), named_size = sizeof(named);
        int r;

        r = listener(fd, port);
        printf("%s\n", r < 0 ? text_of(r) : "ready");
        (void)fflush(stdout);
        if (r < 0)
                return r;
        r = ring_accept(ring, fd, &peer, &size);
        printf("ACCEPT %s\n", text_of(r));
        if (r < 0)
                return r;
        if (getpeername(r, (struct sockaddr *)&named, &named_size) == 0)
                printf("names %s\n", named.sin_addr.s_addr == peer.sin_addr.s_addr &&
                                             named.sin_port == peer.sin_port
                                         ? "agree"
                                         : "differ");
        return talk(ring, r, false);
}

/* A listener and a client of the ring's own making, in this process. */
static int within(struct ring *ring, int port)
{
        int fd = ring_socket(ring), other = ring_socket(ring), r;
        struct sockaddr_in peer = {0};
        socklen_t size = sizeof(peer);
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        printf("SOCKET %s\n", text_of(fd));
        if (fd < 0 || other < 0)
                return fd;
        r = listener(fd, port);
        printf("listen %s\n", text_of(r));
        r = ring_connect(ring, other, &to);
        printf("CONNECT %s\n", text_of(r));
        if (r < 0)
                return r;
        r = ring_accept(ring, fd, &peer, &size);
        printf("ACCEPT %s\n", text_of(r));
        return r;
}

static long x32_socket(void)
{
        long fd = syscall(X32_BIT + SYS_socket, AF_INET, SOCK_STREAM, 0);

        return fd < 0 ? -errno : fd;
}

static int reach32(const char *address, int port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int fd = (int)x32_socket();
        char buffer[6] = "";

        if (fd < 0)
                return fd;
        if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
                return -EINVAL;
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
            send(fd, "hello", 5, MSG_NOSIGNAL) != 5 || recv(fd, buffer, 5, MSG_WAITALL) != 5)
                return -errno;
        printf("%s\n", buffer);
        return 0;
}

static int made(struct ring *ring)
{
        int fd = ring_socket(ring);

        if (fd < 0)
                printf("SOCKET %s\n", text_of(fd));
        return fd;
}

/* As a 32-bit program asks, from a 64-bit one. */
static long int80_socket(void)
{
        long r;

        __asm__ volatile("int $0x80"
                         : "=a"(r)
                         : "a"(359L), "b"((long)AF_INET), "c"((long)SOCK_STREAM), "d"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        return r;
}

int main(int argc, char **argv)
{
        const char *what = argc > 1 ? argv[1] : "";
        struct ring ring = {.fd = -1};
        long fd;
        int r;

        if (strcmp(what, "x32") == 0) {
                fd = x32_socket();
                printf("%s\n", fd < 0 ? text_of(fd) : "made");
                return 0;
        }
        if (strcmp(what, "reach32") == 0 && argc == 4) {
                r = reach32(argv[2], atoi(argv[3]));
                if (r < 0)
                        printf("%s\n", text_of(r));
                return r < 0 ? 1 : 0;
        }
        if (strcmp(what, "int80") == 0) {
                fd = int80_socket();
                printf("%s\n", fd < 0 ? text_of((int)fd) : "made");
                return 0;
        }
        r = ring_open(&ring);
        if (r < 0) {
                printf("io_uring_setup %s\n", text_of(r));
                return 0;
        }
        if (strcmp(what, "client") == 0 && argc == 4)
                r = client(&ring, socket(AF_INET, SOCK_STREAM, 0), argv[2], atoi(argv[3]));
        else if (strcmp(what, "server") == 0 && argc == 3)
                r = server(&ring, socket(AF_INET, SOCK_STREAM, 0), atoi(argv[2]));
        else if (strcmp(what, "socket") == 0 && argc == 3)
                r = within(&ring, atoi(argv[2]));
        else if (strcmp(what, "reach") == 0 && argc == 4)
                r = client(&ring, made(&ring), argv[2], atoi(argv[3]));
        else if (strcmp(what, "wait") == 0 && argc == 3)
                r = server(&ring, made(&ring), atoi(argv[2]));
        else {
                (void)fprintf(stderr, "matrix-uring: see the top of %s\n", __FILE__);
                return 2;
        }
        return r < 0 ? 1 : 0;
}
