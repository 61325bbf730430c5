/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The kernel's table of flows (conntrack), as far as changes of address translation need it: a flow
 * goes by the rules that were there when it began, until it is forgotten.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../basic/inaddr.h"

struct conntrack_flow {
        uint8_t protocol;
        bool translated; /* its destination was */
        /* Whom the first packet was for, and who answers: the same unless it was translated. */
        union slim_addr dst, answerer;
        uint16_t dst_port, answerer_port;
};

/*
 * Forgets each flow of the caller's network namespace for which match() says so, so that its next
 * packet begins it anew. 0 or a negative errno, such as where the kernel has no such table.
 */
int conntrack_forget(bool (*match)(const struct conntrack_flow *flow, void *userdata),
                     void *userdata);
