// SPDX-License-Identifier: Apache-2.0
/*
 * What a SYN of a flood costs slim_ingress: while nobody watches, while somebody does, and as one
 * that is told. By BPF_PROG_TEST_RUN, which leaves out all that the kernel does around a program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "basic/macro.h"
#include "harness.h"

#define ROUNDS 9

static struct slim_bpf *skel;
static uint8_t data[PACKET_MAX];
static size_t len;

static void watch_until(uint64_t until)
{
        uint32_t zero = 0;

        if (bpf_map_update_elem(bpf_map__fd(skel->maps.watch), &zero, &until, BPF_ANY) < 0)
                exit(EXIT_FAILURE);
}

static void forget_windows(void)
{
        static struct slim_event_window none[8192];

        for (uint32_t i = 0; i < SLIM_REASON_MAX; i++)
                if (bpf_map_update_elem(bpf_map__fd(skel->maps.event_windows), &i, none, BPF_ANY) <
                    0)
                        exit(EXIT_FAILURE);
}

/* ns for a packet: a mean of n. */
static uint32_t run(int n)
{
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = (uint32_t)len,
                            .repeat = n);

        if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_ingress), &opts) < 0)
                exit(EXIT_FAILURE);
        return opts.duration;
}

static int compare(const void *a, const void *b)
{
        return (int)*(const uint32_t *)a - (int)*(const uint32_t *)b;
}

static void say(const char *what, uint32_t ns[ROUNDS])
{
        qsort(ns, ROUNDS, sizeof(ns[0]), compare);
        printf("%-44s %5u ns (%u to %u)\n", what, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1]);
}

int main(void)
{
        uint32_t unwatched[ROUNDS], flood[ROUNDS], told[ROUNDS];
        struct packet p = {.from_port = 40001, .to_port = PORT_BASE, .flags = TCP_SYN};

        skel = harness_start();
        if (!skel)
                return 0;
        p.from = harness_addr("192.0.2.7");
        p.to = harness_addr("192.0.2.8");
        len = packet_build(&p, data);
        for (unsigned int i = 0; i < ROUNDS; i++) {
                watch_until(0);
                unwatched[i] = run(1000000);
                watch_until(UINT64_MAX);
                flood[i] = run(1000000);
                forget_windows();
                told[i] = run(SLIM_EVENT_BURST); /* nobody reads, and there is room for all */
        }
        say("a SYN without an option, nobody watches", unwatched);
        say("somebody watches, more than are told", flood);
        say("somebody watches, each is told", told);
        slim_bpf__destroy(skel);
        return EXIT_SUCCESS;
}
