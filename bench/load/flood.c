/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flood: packets of one kind, at a fixed rate or as many as there can be, until a signal comes or
 * --count or --seconds is over. It needs root.
 *
 * A raw socket takes whole IP packets, with whatever source address, and leaves the way to the
 * target to the machine's routes and neighbours.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "flood-packet.h"
#include "net.h"
#include "verbs.h"

#define BATCH    64
#define PAUSE_NS 500000
/* What is more than this late is not sent any more: a flood has no bursts that its rate has not. */
#define LATE_NS 10000000ULL

static volatile sig_atomic_t ended;

static void end(int number)
{
        ended = 1;
}

static const struct sockaddr *address_of(const union slim_addr *a, struct sockaddr_storage *buf,
                                         socklen_t *ret_len)
{
        if (inaddr_is_v4(a)) {
                struct sockaddr_in *sin = (struct sockaddr_in *)buf;

                *sin = (struct sockaddr_in){.sin_family = AF_INET};
                sin->sin_addr.s_addr = a->w[3];
                *ret_len = sizeof(*sin);
        } else {
                struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)buf;

                *sin6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
                memcpy(&sin6->sin6_addr, a, sizeof(*a));
                *ret_len = sizeof(*sin6);
        }
        return (const struct sockaddr *)buf;
}

/* The address that this machine has on its way to the target. */
static int own_address(int fd, union slim_addr *ret)
{
        struct sockaddr_storage name = {};
        socklen_t len = sizeof(name);

        if (getsockname(fd, (struct sockaddr *)&name, &len) < 0)
                return -errno;
        if (name.ss_family == AF_INET)
                *ret = inaddr_from_v4(((struct sockaddr_in *)&name)->sin_addr.s_addr);
        else
                memcpy(ret, &((struct sockaddr_in6 *)&name)->sin6_addr, sizeof(*ret));
        return 0;
}

static int open_to(const union slim_addr *to, int *ret)
{
        struct sockaddr_storage name;
        socklen_t len;
        const struct sockaddr *sa = address_of(to, &name, &len);
        _cleanup_close_ int fd = socket(sa->sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

        if (fd < 0)
                return log_error_errno(-errno, "cannot open a raw socket: %m");
        if (connect(fd, sa, len) < 0)
                return log_error_errno(-errno, "cannot reach the target: %m");
        *ret = TAKE_FD(fd);
        return 0;
}

static int fill(const struct options *o, int fd, struct flood *f)
{
        int r = 0;

        *f = (struct flood){
            .kind = (enum flood_kind)flood_kind_find(o->kind),
            .port = o->port,
            .ports = (uint16_t)o->ports,
            .client = (uint32_t)o->client,
            .server = (uint32_t)o->server,
            .network = (uint32_t)o->network,
        };
        if (o->port + o->ports > 65536)
                return log_error_errno(-EINVAL, "--ports: there is no port above 65535");
        (void)inaddr_parse(o->address, &f->to);
        (void)inaddr_prefix_parse(o->inner, &f->inner);
        if (o->from) {
                (void)inaddr_prefix_parse(o->from, &f->from);
        } else {
                f->from.bits = 128;
                r = own_address(fd, &f->from.addr);
        }
        if (r < 0)
                return log_error_errno(r, "cannot tell the address of this machine: %m");
        if (inaddr_is_v4(&f->from.addr) != inaddr_is_v4(&f->to))
                return log_error_errno(-EINVAL, "--from is not of the family of the target");
        return 0;
}

/* How many of n went. 0: the device's queue is full, or a neighbour does not answer yet. */
static int send_some(int fd, const struct flood *f, uint64_t *seed, unsigned int n)
{
        uint8_t packets[BATCH][FLOOD_PACKET_MAX];
        struct iovec parts[BATCH];
        struct mmsghdr messages[BATCH] = {};
        int sent;

        for (unsigned int i = 0; i < n; i++) {
                parts[i] = (struct iovec){packets[i], flood_packet(f, seed, packets[i])};
                messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        sent = sendmmsg(fd, messages, n, 0);
        if (sent >= 0)
                return sent;
        return errno == ENOBUFS || errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* How many are due now, after so many: BATCH at most. *begin moves when they are late. */
static unsigned int due(const struct options *o, uint64_t *begin, uint64_t now, uint64_t sent)
{
        uint64_t n = BATCH, at;

        if (o->rate > 0) {
                at = sent * NS_PER_SEC / o->rate; /* when the next one is, from the beginning */
                if (now - *begin > at + LATE_NS)
                        *begin = now - at - LATE_NS;
                n = (now - *begin) * o->rate / NS_PER_SEC;
                n = n > sent ? n - sent : 0;
        }
        if (o->count > 0 && n > o->count - sent)
                n = o->count - sent;
        return n < BATCH ? (unsigned int)n : BATCH;
}

/* Processor time of this process, in µs. What its packets cost until they leave its processor is
 * in it: on a veth without RPS all that becomes of them. */
static double cpu_us(void)
{
        struct rusage used;

        if (getrusage(RUSAGE_SELF, &used) < 0)
                return 0;
        return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static int flood(const struct options *o, int fd, const struct flood *f)
{
        const struct timespec pause = {.tv_nsec = PAUSE_NS};
        uint64_t seed = 0, sent = 0, start = now_ns(), begin = start, now = start;
        uint64_t length = o->seconds * NS_PER_SEC;

        while (seed == 0)
                if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
                        return log_error_errno(-errno, "no random numbers: %m");
        while (!ended && (o->count == 0 || sent < o->count) && now - start < length) {
                unsigned int n = due(o, &begin, now, sent);
                int r = n > 0 ? send_some(fd, f, &seed, n) : 0;

                if (r < 0)
                        return log_error_errno(r, "cannot send: %m");
                if (r == 0)
                        nanosleep(&pause, NULL);
                sent += (uint64_t)r;
                now = now_ns();
        }
        printf("{\"what\": \"%s\", \"total\": %llu, \"seconds\": %.3f, \"rate\": %.1f, "
               "\"cpu_us\": %.3f}\n",
               flood_kind_name(f->kind), (unsigned long long)sent, (double)(now - start) / 1e9,
               now > start ? (double)sent * 1e9 / (double)(now - start) : 0,
               sent > 0 ? cpu_us() / (double)sent : 0);
        return 0;
}

int run_flood(const struct options *o)
{
        const struct sigaction action = {.sa_handler = end};
        _cleanup_close_ int fd = -1;
        union slim_addr to;
        struct flood f;
        int r = inaddr_parse(o->address, &to);

        if (r >= 0)
                r = open_to(&to, &fd);
        if (r >= 0)
                r = fill(o, fd, &f);
        if (r < 0)
                return r;
        (void)sigaction(SIGTERM, &action, NULL);
        (void)sigaction(SIGINT, &action, NULL);
        puts("ready");
        fflush(stdout);
        return flood(o, fd, &f);
}
