/* SPDX-License-Identifier: Apache-2.0 */
#include "budget.h"

#include <errno.h>
#include <inttypes.h>

#include <bpf/bpf.h>

#include "../abi/slim-abi.h"
#include "../basic/log.h"

void budget_init(struct budget *b, int usage_map, uint32_t endpoint, uint64_t max,
                 _Atomic uint64_t *made)
{
        *b =
            (struct budget){.usage_map = usage_map, .endpoint = endpoint, .max = max, .made = made};
}

/* Signed: of a container that is older than its counters more is closed than was made. */
static bool is_within(const struct budget *b, uint64_t made)
{
        return (int64_t)(made - atomic_load(&b->closed)) <= (int64_t)b->max;
}

int budget_take(struct budget *b)
{
        uint64_t made = atomic_fetch_add(b->made, 1) + 1;
        struct slim_usage usage;

        if (is_within(b, made))
                return 0;
        if (bpf_map_lookup_elem(b->usage_map, &b->endpoint, &usage) == 0) {
                atomic_store(&b->closed, usage.closed);
                if (is_within(b, made))
                        return 0;
        }
        budget_return(b);
        if (!atomic_exchange(&b->told, true))
                log_warning("endpoint %u has %" PRIu64
                            " TCP sockets open, which is all that it may "
                            "have (slimd --max-sockets)",
                            b->endpoint, b->max);
        return -EMFILE;
}

void budget_return(struct budget *b)
{
        atomic_fetch_sub(b->made, 1);
}
