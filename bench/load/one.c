/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latencies: one thing after another, on one blocking socket at a time, so that nothing waits for
 * anything but the network. The first tenth is not counted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/log.h"
#include "histogram.h"
#include "net.h"
#include "verbs.h"

#define MESSAGE_MAX 65536

struct measured {
        const char *address;
        uint16_t port;
        int fd; /* of ping */
        size_t size;
        char *sent, *received;
};

/*
 * Does it o->count times, or for o->seconds when there is no count. total: of all, also of those
 * that are not counted.
 */
static int repeat(const struct options *o, const char *what, struct measured *m,
                  int (*once)(struct measured *m))
{
        _cleanup_free_ struct histogram *h = new0(struct histogram, 1);
        uint64_t begin = now_ns(), warm_count = o->count / 10, done = 0, first = begin, end = begin;
        uint64_t length = o->count ? 0 : o->seconds * NS_PER_SEC;

        if (!h)
                return log_error_errno(-ENOMEM, "no memory");
        while (o->count ? done < o->count + warm_count : end - begin < length) {
                uint64_t start = now_ns();
                int r = once(m);

                end = now_ns();
                if (r < 0)
                        return log_error_errno(r, "%s, number %llu: %m", what,
                                               (unsigned long long)done + 1);
                done++;
                if (o->count ? done <= warm_count : end - begin < length / 10)
                        first = end;
                else
                        histogram_add(h, end - start);
        }
        printf("{\"what\": \"%s\", \"total\": %llu, \"rate\": %.1f, ", what,
               (unsigned long long)done,
               end > first ? (double)h->count * 1e9 / (double)(end - first) : 0);
        histogram_print(h);
        printf("}\n");
        return 0;
}

static int ping_once(struct measured *m)
{
        int r = net_send(m->fd, m->sent, m->size);

        if (r >= 0)
                r = net_receive(m->fd, m->received, m->size);
        if (r < 0)
                return r;
        if (memcmp(m->sent, m->received, m->size) != 0)
                return -EBADMSG;
        m->sent[0]++; /* the next one is not this one over again */
        return 0;
}

int run_ping(const struct options *o)
{
        _cleanup_free_ char *sent = NULL, *received = NULL;
        _cleanup_close_ int fd = -1;
        struct measured m;
        int r;

        if (o->size > MESSAGE_MAX)
                return log_error_errno(-EINVAL, "--size: at most %d", MESSAGE_MAX);
        sent = new0(char, o->size);
        received = new0(char, o->size);
        if (!sent || !received)
                return log_error_errno(-ENOMEM, "no memory");
        r = net_connect(o->address, o->port, 0, &fd);
        if (r >= 0)
                r = net_nodelay(fd);
        if (r < 0)
                return log_error_errno(r, "cannot connect: %m");
        m = (struct measured){.fd = fd, .size = o->size, .sent = sent, .received = received};
        return repeat(o, "round trip", &m, ping_once);
}

static int connect_once(struct measured *m)
{
        int fd = -1, r = net_connect(m->address, m->port, 0, &fd);

        safe_close(fd);
        return r;
}

int run_connect(const struct options *o)
{
        struct measured m = {.address = o->address, .port = o->port, .fd = -1};

        return repeat(o, "socket + connect + close", &m, connect_once);
}

/* The server closes first, so that what waits afterwards (TIME_WAIT) is at its side. */
static int first_byte_once(struct measured *m)
{
        _cleanup_close_ int fd = -1;
        char byte = 0;
        int r = net_connect(m->address, m->port, 0, &fd);

        if (r >= 0)
                r = net_receive(fd, &byte, 1);
        if (r < 0)
                return r;
        return byte == '!' ? 0 : -EBADMSG;
}

int run_first_byte(const struct options *o)
{
        struct measured m = {.address = o->address, .port = o->port, .fd = -1};

        return repeat(o, "socket + connect + first byte", &m, first_byte_once);
}
