/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What CNI_COMMAND can ask for. Each gets the configuration, and fails with what went wrong.
 */
#include "config.h"

/*
 * *ret: the result, a new reference.
 */
int cni_add(const struct cni_config *c, json_t **ret, struct cni_error *e);
int cni_del(const struct cni_config *c, struct cni_error *e);
/* Is all that ADD made still there? */
int cni_check(const struct cni_config *c, struct cni_error *e);
/* Detaches what the runtime does not know any more. */
int cni_gc(const struct cni_config *c, struct cni_error *e);
/* Could ADD be served now? */
int cni_status(const struct cni_config *c, struct cni_error *e);
