/* SPDX-License-Identifier: Apache-2.0 */
#include "slimd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"

char *cni_attachment(const struct cni_config *c, const char *container, const char *interface)
{
        char *text;
        int n = container ? asprintf(&text, "%s/%s/%s", c->name, container, interface)
                          : asprintf(&text, "%s/", c->name);

        return n < 0 ? NULL : text;
}

int cni_slimd_connect(const struct cni_config *c, struct rpc **ret, struct cni_error *e)
{
        int r = rpc_connect(c->run_dir, ret);

        if (r == -ENOENT || r == -ECONNREFUSED)
                return cni_fail(e, CNI_ERROR_AGAIN,
                                "slimd does not run here (%s/" RPC_SOCKET_NAME ": %s)", c->run_dir,
                                strerror(-r));
        if (r < 0)
                return cni_fail(e, CNI_ERROR_REFUSED,
                                "cannot talk to slimd at %s/" RPC_SOCKET_NAME ": %s", c->run_dir,
                                strerror(-r));
        return 0;
}

int cni_slimd_call(struct rpc *rpc, const char *doing, const char *method, json_t *parameters,
                   const int *fds, size_t n_fds, json_t **ret, struct cni_error *e)
{
        _cleanup_json_ json_t *owned = parameters;
        _cleanup_free_ char *sentence = NULL;
        int r = rpc_call(rpc, method, owned, fds, n_fds, ret, &sentence);

        if (r >= 0)
                return 0;
        /* It ended, or will be able to in a moment; all that it did, the next one knows of. */
        if (r == -EAGAIN || ((r == -ECONNRESET || r == -EPIPE) && !sentence))
                return cni_fail_details(e, CNI_ERROR_AGAIN,
                                        sentence ?: "slimd ended before it answered",
                                        "cannot %s now", doing);
        return cni_fail_details(e, CNI_ERROR_REFUSED, sentence ?: strerror(-r), "cannot %s", doing);
}

int cni_slimd_attached(struct rpc *rpc, const char *prefix, json_t **ret, struct cni_error *e)
{
        _cleanup_json_ json_t *answer = NULL;
        json_t *list;
        int r = cni_slimd_call(rpc, "list the endpoints", "Endpoint.List",
                               json_pack("{s:s}", "attached", prefix), NULL, 0, &answer, e);

        if (r < 0)
                return r;
        list = json_object_get(answer, "endpoints");
        if (!json_is_array(list))
                return cni_fail(e, CNI_ERROR_REFUSED, "slimd's answer has no list of endpoints");
        *ret = json_incref(list);
        return 0;
}

int cni_slimd_detach(struct rpc *rpc, const char *attachment, struct cni_error *e)
{
        char doing[512];

        snprintf(doing, sizeof(doing), "detach %.400s", attachment);
        return cni_slimd_call(rpc, doing, "Endpoint.Detach",
                              json_pack("{s:s}", "attachment", attachment), NULL, 0, NULL, e);
}
