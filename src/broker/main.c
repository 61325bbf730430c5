/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slim-broker: hands host-namespace TCP sockets to one container, for as long as it lives, and
 * answers for them where the kernel would answer with the host's.
 *
 * slimd starts it in the host's network namespace and in the cgroup where the BPF programs are
 * attached, with the descriptors of broker-fds.h. It owns no state that slimd would have to save:
 * a broker that dies is replaced, and slimd may come and go.
 *
 * It also holds the sockets that reserve the container's published ports (reserved.h). With --hold,
 * for a plain container, it does nothing else, until slimd ends it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../basic/inaddr.h"
#include "../basic/log.h"
#include "../basic/name.h"
#include "broker-fds.h"
#include "notify.h"
#include "reserved.h"

#define SLICE_NS 100000 /* the shortest that the kernel takes */

static int usage(int status)
{
        fprintf(status ? stderr : stdout,
                "Usage: slim-broker --endpoint ID --network ID --address ADDR… [--reserved N] "
                "[--max-sockets N] [--hold]\n"
                "Hands TCP sockets to one container. Started by slimd; not for use by hand.\n");
        return status;
}

static int parse_id(const char *text, const char *what, uint32_t *ret)
{
        uint64_t v;
        int r = parse_uint(text, 1, UINT32_MAX, &v);

        if (r < 0) {
                log_error("%s \"%s\" is not an id", what, text);
                return r;
        }
        *ret = (uint32_t)v;
        return 0;
}

struct arguments {
        struct slim_socket identity;
        unsigned int reserved;
        uint64_t max_sockets;
        bool hold;
};

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
        static const struct option options[] = {
            {"endpoint", required_argument, NULL, 'e'},
            {"network", required_argument, NULL, 'n'},
            {"address", required_argument, NULL, 'a'},
            {"reserved", required_argument, NULL, 'r'},
            {"max-sockets", required_argument, NULL, 'm'},
            {"hold", no_argument, NULL, 'H'},
            {"help", no_argument, NULL, 'h'},
            {},
        };
        struct slim_socket s = {.slot = SLIM_NO_SLOT};
        bool address = false, hold = false;
        uint64_t reserved = 0, max_sockets = UINT32_MAX;
        union slim_addr addr;
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                switch (c) {
                case 'e':
                        if (parse_id(optarg, "--endpoint", &s.endpoint) < 0)
                                return -EINVAL;
                        break;
                case 'n':
                        if (parse_id(optarg, "--network", &s.network) < 0)
                                return -EINVAL;
                        break;
                case 'a':
                        if (inaddr_parse(optarg, &addr) < 0 || inaddr_is_none(&addr)) {
                                log_error("--address \"%s\" is not an IP address", optarg);
                                return -EINVAL;
                        }
                        if (!inaddr_is_none(&s.addr[inaddr_family(&addr)])) {
                                log_error("--address \"%s\": there is one of its family already",
                                          optarg);
                                return -EINVAL;
                        }
                        s.addr[inaddr_family(&addr)] = addr;
                        address = true;
                        break;
                case 'r':
                        if (parse_uint(optarg, 0, BROKER_RESERVED_MAX, &reserved) < 0) {
                                log_error("--reserved \"%s\" is not a number of sockets", optarg);
                                return -EINVAL;
                        }
                        break;
                case 'm':
                        if (parse_uint(optarg, 1, UINT32_MAX, &max_sockets) < 0) {
                                log_error("--max-sockets \"%s\" is not a number of sockets",
                                          optarg);
                                return -EINVAL;
                        }
                        break;
                case 'H':
                        hold = true;
                        break;
                case 'h':
                        exit(usage(0));
                default:
                        return -EINVAL;
                }
        }
        if (optind < argc || !s.endpoint || !s.network || !address)
                return -EINVAL;
        *ret = (struct arguments){.identity = s,
                                  .reserved = (unsigned int)reserved,
                                  .max_sockets = max_sockets,
                                  .hold = hold};
        return 0;
}

/* struct sched_attr of the kernel, whose header does not go with the C library's <sched.h>. */
struct scheduling {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
};

/*
 * Callers wait for each turn, which takes some microseconds. Whoever has a short slice (Linux 6.12)
 * need not wait until those who compute have used up theirs; his share of the time stays the same.
 */
static int take_short_turns(void)
{
        const struct scheduling s = {.size = sizeof(s), .runtime = SLICE_NS};

        return syscall(SYS_sched_setattr, 0, &s, 0) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
        struct arguments a;
        struct budget budget;
        struct pool pool;
        char *memory;
        int r;

        log_setup("slim-broker");
        if (parse_arguments(argc, argv, &a) < 0)
                return usage(2);
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                log_warning_errno(-errno, "cannot hide from debuggers: %m, ignoring");
        while (a.hold)
                pause();
        r = take_short_turns();
        if (r < 0)
                log_warning_errno(r, "cannot have short turns: %m, ignoring");
        memory =
            mmap(NULL, BROKER_CALL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, BROKER_FD_CALL, 0);
        if (memory == MAP_FAILED) {
                log_error_errno(-errno, "cannot map the memory for the call in hand: %m");
                return EXIT_FAILURE;
        }
        budget_init(&budget, BROKER_FD_USAGE, a.identity.endpoint, a.max_sockets,
                    (void *)(memory + BROKER_MADE_OFFSET));
        pool_init(&pool, BROKER_FD_SOCKETS, &budget, &a.identity);
        r = notify_loop(BROKER_FD_NOTIFY, BROKER_FD_NETNS, memory, BROKER_FD_PORTS, &pool);
        pool_done(&pool);
        if (r < 0) {
                log_error_errno(r, "endpoint %u: notifications failed: %m", a.identity.endpoint);
                return EXIT_FAILURE;
        }
        reserved_end(BROKER_FD_PUBLISHED, BROKER_FD_RESERVED, a.reserved, a.identity.endpoint);
        return EXIT_SUCCESS;
}
