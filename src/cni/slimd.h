/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * slimd, as a CNI plugin talks to it.
 */
#include "../shared/rpc.h"
#include "config.h"
#include "environment.h"

/*
 * NAME/CONTAINER/INTERFACE: an attachment's id, out of the configuration's name and the variables,
 * none of which has a slash. The caller frees it. With NULL for the variables: what all of a
 * configuration's begin with.
 */
char *cni_attachment(const struct cni_config *c, const char *container, const char *interface);

/* CNI_ERROR_AGAIN: no slimd is there. */
int cni_slimd_connect(const struct cni_config *c, struct rpc **ret, struct cni_error *e);
/* One call; parameters are consumed. doing: for "cannot …". *ret as in rpc_call(), or NULL. */
int cni_slimd_call(struct rpc *rpc, const char *doing, const char *method, json_t *parameters,
                   const int *fds, size_t n_fds, json_t **ret, struct cni_error *e);
/* The endpoints of this host whose attachment begins with this text: a list, a new reference. */
int cni_slimd_attached(struct rpc *rpc, const char *prefix, json_t **ret, struct cni_error *e);
int cni_slimd_detach(struct rpc *rpc, const char *attachment, struct cni_error *e);
