/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a round trip and a connection take, over whatever network it is started on.
 *
 *     rtt echo PORT                      server: sends back what comes, one connection at a time
 *     rtt accept PORT                    server: accepts and closes
 *     rtt ping ADDRESS PORT              client of `echo`: half the round trip of a small message
 *     rtt connect ADDRESS PORT           client of `accept`: socket() + connect() + close()
 *
 * Options of the clients: --count N (10000), --size BYTES (1 to 64, of ping; 1), --warm-up N (a
 * tenth of the count, which is not measured). The servers run until they are killed, and say
 * "ready" on standard output once they listen. The clients print one JSON object, in microseconds.
 * IPv4 only, as the overlay is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/log.h"
#include "basic/name.h"

#define SIZE_LIMIT  64
#define COUNT_LIMIT 10000000

struct options {
        uint64_t count;
        uint64_t warm_up;
        uint64_t size;
};

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int compare_u64(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

/* Prints what was measured; sorts it. divisor: what a sample is to be divided by. */
static void print_samples(const char *what, uint64_t *sample, size_t n, double divisor)
{
        size_t middle = n / 2, late = n - 1 - n / 100;
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += (double)sample[i];
        qsort(sample, n, sizeof(*sample), compare_u64);
        divisor *= 1000; /* from nanoseconds */
        printf("{\"what\": \"%s\", \"count\": %zu, \"p50_us\": %.3f, \"mean_us\": %.3f, "
               "\"p99_us\": %.3f, \"min_us\": %.3f}\n",
               what, n, (double)sample[middle] / divisor, sum / (double)n / divisor,
               (double)sample[late] / divisor, (double)sample[0] / divisor);
}

static int set_nodelay(int fd)
{
        int one = 1;

        return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ? -errno : 0;
}

static int listen_on(uint16_t port, int *ret_fd)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
        int one = 1;
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, SOMAXCONN) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Sends back what comes until the peer closes or goes away. */
static void echo(int fd)
{
        char buf[SIZE_LIMIT];

        if (set_nodelay(fd) < 0)
                return;
        for (;;) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return;
                for (ssize_t sent = 0; sent < n;) {
                        ssize_t m = send(fd, buf + sent, (size_t)(n - sent), MSG_NOSIGNAL);

                        if (m < 0 && errno != EINTR)
                                return;
                        if (m > 0)
                                sent += m;
                }
        }
}

static int serve(uint16_t port, bool with_echo)
{
        _cleanup_close_ int fd = -1;
        int r = listen_on(port, &fd);

        if (r < 0)
                return log_error_errno(r, "cannot listen on port %u: %m", port);
        puts("ready");
        fflush(stdout);
        for (;;) {
                _cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

                if (client < 0) {
                        if (errno == EINTR || errno == ECONNABORTED)
                                continue;
                        return log_error_errno(-errno, "cannot accept on port %u: %m", port);
                }
                if (with_echo)
                        echo(client);
        }
}

static int connect_to(const struct sockaddr_in *sa, int *ret_fd)
{
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* One message there and back. */
static int exchange(int fd, char *buf, size_t size)
{
        ssize_t n = send(fd, buf, size, MSG_NOSIGNAL);

        if (n < 0)
                return -errno;
        if ((size_t)n != size)
                return -EIO;
        for (size_t got = 0; got < size;) {
                n = recv(fd, buf + got, size - got, 0);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ECONNRESET;
                got += (size_t)n;
        }
        return 0;
}

static int measure_ping(const struct sockaddr_in *sa, const struct options *o, uint64_t *sample)
{
        char buf[SIZE_LIMIT];
        _cleanup_close_ int fd = -1;
        int r = connect_to(sa, &fd);

        memset(buf, 'x', sizeof(buf));
        if (r >= 0)
                r = set_nodelay(fd);
        if (r < 0)
                return log_error_errno(r, "cannot connect: %m");
        for (uint64_t i = 0; i < o->warm_up + o->count; i++) {
                uint64_t start = now_ns();

                r = exchange(fd, buf, o->size);
                if (r < 0)
                        return log_error_errno(r, "message %llu: %m", (unsigned long long)i + 1);
                if (i >= o->warm_up)
                        sample[i - o->warm_up] = now_ns() - start;
        }
        print_samples("half round trip", sample, o->count, 2);
        return 0;
}

static int measure_connect(const struct sockaddr_in *sa, const struct options *o, uint64_t *sample)
{
        for (uint64_t i = 0; i < o->warm_up + o->count; i++) {
                uint64_t start = now_ns();
                int fd = -1, r = connect_to(sa, &fd);

                if (r < 0)
                        return log_error_errno(r, "connection %llu: %m", (unsigned long long)i + 1);
                safe_close(fd);
                if (i >= o->warm_up)
                        sample[i - o->warm_up] = now_ns() - start;
        }
        print_samples("socket + connect + close", sample, o->count, 1);
        return 0;
}

static int usage(FILE *f)
{
        fputs("rtt echo|accept PORT\n"
              "rtt ping|connect ADDRESS PORT [--count N] [--warm-up N] [--size BYTES]\n",
              f);
        return f == stderr ? 2 : 0;
}

static int parse_options(int argc, char **argv, struct options *ret)
{
        static const struct option table[] = {
            {"count", required_argument, NULL, 'c'},
            {"warm-up", required_argument, NULL, 'w'},
            {"size", required_argument, NULL, 's'},
            {"help", no_argument, NULL, 'h'},
            {},
        };
        struct options o = {.count = 10000, .size = 1};
        bool warm_up_given = false;
        int c;

        while ((c = getopt_long(argc, argv, "h", table, NULL)) >= 0) {
                uint64_t *value = c == 'c' ? &o.count : c == 'w' ? &o.warm_up : &o.size;
                uint64_t min = c == 'w' ? 0 : 1, max = c == 's' ? SIZE_LIMIT : COUNT_LIMIT;

                if (c == 'h' || c == '?')
                        return c == 'h' ? 1 : -EINVAL;
                warm_up_given = warm_up_given || c == 'w';
                if (parse_uint(optarg, min, max, value) < 0) {
                        log_error("\"%s\" is no number from %llu to %llu", optarg,
                                  (unsigned long long)min, (unsigned long long)max);
                        return -EINVAL;
                }
        }
        if (!warm_up_given)
                o.warm_up = o.count / 10;
        *ret = o;
        return 0;
}

static int run_client(const char *address, uint16_t port, bool ping, const struct options *o)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
        _cleanup_free_ uint64_t *sample = NULL;

        if (inet_pton(AF_INET, address, &sa.sin_addr) != 1)
                return log_error_errno(-EINVAL, "\"%s\" is no IPv4 address", address);
        sample = new0(uint64_t, o->count);
        if (!sample)
                return log_error_errno(-ENOMEM, "no memory for %llu samples",
                                       (unsigned long long)o->count);
        return ping ? measure_ping(&sa, o, sample) : measure_connect(&sa, o, sample);
}

int main(int argc, char **argv)
{
        struct options o;
        uint64_t port;
        int r;

        log_setup("rtt");
        r = parse_options(argc, argv, &o);
        if (r != 0)
                return usage(r > 0 ? stdout : stderr);
        argc -= optind;
        argv += optind;
        if (argc < 2 || parse_uint(argv[argc - 1], 1, 65535, &port) < 0)
                return usage(stderr);
        if (argc == 2 && strcmp(argv[0], "echo") == 0)
                r = serve((uint16_t)port, true);
        else if (argc == 2 && strcmp(argv[0], "accept") == 0)
                r = serve((uint16_t)port, false);
        else if (argc == 3 && strcmp(argv[0], "ping") == 0)
                r = run_client(argv[1], (uint16_t)port, true, &o);
        else if (argc == 3 && strcmp(argv[0], "connect") == 0)
                r = run_client(argv[1], (uint16_t)port, false, &o);
        else
                return usage(stderr);
        return r < 0 ? 1 : 0;
}
