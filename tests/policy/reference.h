/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A second opinion: what Kubernetes' documentation says of a flow, read off the policies as they
 * are written, one sentence after the other. It shares nothing with the compiler, nor with the
 * decoder: policies are JSON here.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi/slim-abi.h"

struct reference_endpoint {
        const char *network;
        const json_t *labels; /* an object of texts */
        const json_t *ports;  /* an array of {"name", "protocol" (a text), "port"} */
        bool is_host;
        union slim_addr addr;
};

struct reference_flow {
        const struct reference_endpoint *subject;
        enum slim_policy_direction direction;  /* of the subject's */
        const struct reference_endpoint *peer; /* NULL: not an endpoint */
        union slim_addr addr;                  /* of the peer */
        const char *protocol;                  /* "TCP", …; another, such as "ICMP" */
        uint16_t port;
};

/* policies: an array. networks: an object, of labels by name, without those that all have. */
enum slim_policy_verdict reference_verdict(const json_t *policies, const json_t *networks,
                                           const struct reference_flow *flow);
