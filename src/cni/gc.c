/* SPDX-License-Identifier: Apache-2.0 */
/* GC, STATUS: of a network as a whole. */
#include <errno.h>
#include <string.h>

#include "../basic/alloc.h"
#include "operations.h"
#include "slimd.h"

/* --- GC --------------------------------------------------------------------------------------- */

/* The ids of those that are to stay, as the keys of an object. */
static int valid_attachments(const struct cni_config *c, json_t **ret, struct cni_error *e)
{
        _cleanup_json_ json_t *keep = json_object();
        json_t *item;
        size_t i;

        /* null: what a runtime without any may send. What is missing does not mean that. */
        if (!json_is_array(c->valid) && !json_is_null(c->valid))
                return cni_fail(e, CNI_ERROR_CONFIG,
                                c->valid ? "\"%s\" is not a list" : "\"%s\" is missing",
                                "cni.dev/valid-attachments");
        json_array_foreach (c->valid, i, item) {
                _cleanup_free_ char *id = NULL;
                const char *container, *interface;

                if (json_unpack(item, "{s:s, s:s}", "containerID", &container, "ifname",
                                &interface) < 0)
                        return cni_fail(e, CNI_ERROR_CONFIG,
                                        "\"cni.dev/valid-attachments\": an element has no "
                                        "\"containerID\" and \"ifname\"");
                id = cni_attachment(c, container, interface);
                if (!id || json_object_set_new(keep, id, json_true()) < 0)
                        return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        }
        *ret = TAKE_PTR(keep);
        return 0;
}

/* All that can be, whatever fails. */
int cni_gc(const struct cni_config *c, struct cni_error *e)
{
        _cleanup_json_ json_t *keep = NULL, *list = NULL;
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_free_ char *prefix = cni_attachment(c, NULL, NULL);
        const json_t *endpoint;
        size_t i;
        int r;

        if (!prefix)
                return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        r = valid_attachments(c, &keep, e);
        if (r == 0)
                r = cni_slimd_connect(c, &rpc, e);
        if (r == 0)
                r = cni_slimd_attached(rpc, prefix, &list, e);
        if (r < 0)
                return r;
        json_array_foreach (list, i, endpoint) {
                const char *id = json_string_value(json_object_get(endpoint, "attachment"));

                if (id && !json_object_get(keep, id) && cni_slimd_detach(rpc, id, e) < 0)
                        r = -EINVAL;
        }
        return r;
}

/* --- STATUS ----------------------------------------------------------------------------------- */

int cni_status(const struct cni_config *c, struct cni_error *e)
{
        _cleanup_(cni_error_done) struct cni_error problem = {};
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_json_ json_t *status = NULL;
        const char *store, *policy;

        /* Containers that are there go on as they are. */
        if (cni_slimd_connect(c, &rpc, &problem) < 0 ||
            cni_slimd_call(rpc, "ask slimd", "Status", NULL, NULL, 0, &status, &problem) < 0)
                return cni_fail_details(e, CNI_ERROR_UNAVAILABLE, problem.details, "%s",
                                        problem.message ?: "slimd does not answer");
        store = json_string_value(json_object_get(status, "store_error"));
        policy = json_string_value(json_object_get(status, "policy_error"));
        /* Nor do they learn of who comes meanwhile, on this host or another. */
        if (store)
                return cni_fail_details(e, CNI_ERROR_LIMITED, store, "the store does not answer");
        if (policy)
                return cni_fail_details(e, CNI_ERROR_LIMITED, policy,
                                        "policies are not in force as they are stored");
        return 0;
}
