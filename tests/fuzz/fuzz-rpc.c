/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message decoder under input that no peer would send. The first byte says into what pieces
 * the rest is cut on its way, and beside which of them a descriptor goes; whatever comes out, the
 * number of open descriptors is the same before and after.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined. Otherwise replay.c.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "fuzz-rpc: %s\n", what);
        abort();
}

/* The lowest free number: the same again as long as nothing was left open. */
static int free_fd(void)
{
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        check(fd >= 0, "cannot open /dev/null");
        close(fd);
        return fd;
}

static size_t send_piece(int fd, const uint8_t *data, size_t len, int file, unsigned int n_fds)
{
        union {
                struct cmsghdr align;
                char buf[CMSG_SPACE(sizeof(int) * 8)];
        } control = {0};
        struct iovec iov = {(void *)data, len};
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (n_fds > 0) {
                control.align.cmsg_level = SOL_SOCKET;
                control.align.cmsg_type = SCM_RIGHTS;
                control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                for (unsigned int i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &file, sizeof(int));
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        }
        n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
        return n < 0 ? 0 : (size_t)n;
}

/* Takes what is there; what is a message can be written and read again. */
static int receive_all(struct rpc *rpc)
{
        for (;;) {
                json_t *m = NULL, *again;
                int fds[RPC_FDS_MAX], r;
                size_t n_fds = 0;
                char *text;

                r = rpc_receive(rpc, &m, fds, &n_fds);
                if (r <= 0)
                        return r;
                check(json_is_object(m), "a message that is no object");
                check(n_fds <= RPC_FDS_MAX, "too many descriptors");
                for (size_t i = 0; i < n_fds; i++)
                        check(close(fds[i]) == 0, "a descriptor that is none");
                text = json_dumps(m, JSON_COMPACT);
                check(text != NULL, "a message that cannot be written");
                again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
                check(json_equal(m, again), "a message that is not read as it was written");
                json_decref(again);
                free(text);
                json_decref(m);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        unsigned int piece, every, n_fds, count = 0;
        int before = free_fd(), ends[2], file, r = 0;
        struct rpc *rpc;

        if (size == 0)
                return 0;
        piece = 1 + (data[0] & 0x1f);
        every = 1 + (data[0] >> 5 & 3);
        n_fds = data[0] & 0x80 ? 1 + size % 6 : 0;
        /* No end of the stream itself: one that waits with half a message would keep it open. */
        file = open("/dev/null", O_RDONLY | O_CLOEXEC);
        check(file >= 0, "cannot open /dev/null");
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0,
              "cannot make sockets");
        check(rpc_new(ends[0], &rpc) == 0, "cannot wrap a socket");
        for (size_t at = 1; at < size && r == 0;) {
                size_t len = size - at < piece ? size - at : piece;

                at += send_piece(ends[1], data + at, len, file, count % every == 0 ? n_fds : 0);
                /* Sometimes several pieces wait for one read. */
                if (++count % 3 == 0 || len < piece)
                        r = receive_all(rpc);
        }
        close(ends[1]);
        if (r == 0)
                r = receive_all(rpc);
        check(r < 0, "no end to the stream");
        check(rpc_receive(rpc, &(json_t *){NULL}, NULL, NULL) == r, "another error than before");
        rpc_free(rpc);
        close(file);
        check(free_fd() == before, "a descriptor was left open");
        return 0;
}
