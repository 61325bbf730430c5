/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The result of ADD, in the form of the configuration's version.
 */
#include "config.h"
#include "environment.h"

/* Of what Endpoint.Attach answered. A new reference, NULL: that is no such answer. */
json_t *cni_result(const struct cni_config *c, const struct cni_environment *env,
                   const json_t *answer);
