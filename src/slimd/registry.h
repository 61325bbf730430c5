/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What slimd writes into the store when it is asked to: endpoints of this host, and networks.
 */
#include "slimd.h"

/*
 * Publishes an endpoint of this host under its keys, all new. -EAGAIN: one of them exists.
 * -ENETUNREACH: its network has gone meanwhile.
 */
int registry_publish(struct slimd *d, const struct endpoint *e);
/* The same for one that was published before: its keys are put again, unless another has them
 * (-EEXIST). */
int registry_republish(struct slimd *d, const struct endpoint *e);
int registry_withdraw(struct slimd *d, const struct endpoint *e);
/* The store's part of that alone. */
int registry_delete(struct slimd *d, const struct endpoint *e);

/* Changes the labels of an endpoint of this host, as labeling_change() does; its sentence is in
 * `problem`. -EAGAIN: the store does not have it at the moment. */
int registry_label_endpoint(struct slimd *d, const struct endpoint *e, const json_t *set,
                            const json_t *remove, char *problem);
/* Its limits, as limits_change() does; the same. */
int registry_limit_endpoint(struct slimd *d, const struct endpoint *e, const json_t *set,
                            const json_t *remove, char *problem);
/* The labels of a network. -ENOENT. */
int registry_label_network(struct slimd *d, const char *name, const json_t *set,
                           const json_t *remove, char *problem);

/* All of a network but its id, which is chosen. -EEXIST: the name or (named in *ret_other) an
 * overlapping network. */
int registry_create_network(struct slimd *d, const struct network *wanted, struct network **ret,
                            const char **ret_other);
/* -ENOENT; -EBUSY: it has endpoints; -ENOTEMPTY: it has policies. */
int registry_remove_network(struct slimd *d, const char *name);

enum registry_result {
        REGISTRY_UNCHANGED,
        REGISTRY_CREATED,
        REGISTRY_CHANGED,
};

/*
 * Puts policies, no two of which have one name in one network, into the store: all of them in one
 * transaction or none. ret_results has room for n, what became of each. -ENETUNREACH: the network
 * of *ret_homeless does not exist.
 */
int registry_apply_policies(struct slimd *d, struct policy *const *policies, size_t n,
                            enum registry_result *ret_results, const struct policy **ret_homeless);
/* -ENOENT. */
int registry_remove_policy(struct slimd *d, const char *network, const char *name);
