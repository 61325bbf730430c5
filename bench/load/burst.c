/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What socket() costs a program that makes N at once after a pause, as a server that opens its pool
 * of connections does:
 *
 *     burst N [ROUNDS]
 *
 * Prints one JSON object: the time of a single socket() call, in microseconds, and that of all of a
 * burst divided by N (burst_us, the median of the bursts).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "basic/name.h"

#define BURST_MAX  256
#define ROUNDS_MAX 1000
#define PAUSE_USEC 8000 /* several times the broker's idle time */

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
        static double sample[BURST_MAX * ROUNDS_MAX], whole[ROUNDS_MAX];
        uint64_t burst, rounds = 150;
        int fds[BURST_MAX];
        size_t n = 0;

        log_setup("burst");
        if (argc < 2 || argc > 3 || parse_uint(argv[1], 1, BURST_MAX, &burst) < 0 ||
            (argc == 3 && parse_uint(argv[2], 1, ROUNDS_MAX, &rounds) < 0)) {
                log_error("usage: burst N [ROUNDS], N up to %d", BURST_MAX);
                return 2;
        }
        for (uint64_t k = 0; k < rounds; k++) {
                usleep(PAUSE_USEC);
                whole[k] = now_us();
                for (uint64_t i = 0; i < burst; i++) {
                        double start = now_us();

                        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
                        if (fds[i] < 0)
                                return log_error_errno(-errno, "socket: %m"), 1;
                        sample[n++] = now_us() - start;
                }
                whole[k] = (now_us() - whole[k]) / (double)burst;
                for (uint64_t i = 0; i < burst; i++)
                        safe_close(fds[i]);
        }
        qsort(sample, n, sizeof(*sample), compare);
        qsort(whole, rounds, sizeof(*whole), compare);
        printf("{\"count\": %zu, \"p50_us\": %.2f, \"p90_us\": %.2f, \"burst_us\": %.2f}\n", n,
               sample[n / 2], sample[n * 9 / 10], whole[rounds / 2]);
        return 0;
}
