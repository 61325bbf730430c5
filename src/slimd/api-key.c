/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key.Show, Key.Rotate.
 */
#include <errno.h>
#include <string.h>

#include "api.h"
#include "cluster.h"
#include "key.h"

static int answer(struct api_call *call)
{
        json_t *key;
        int r = key_describe(call->d, &key);

        if (r < 0)
                return api_fail(call, r, "the store does not answer: %s", strerror(-r));
        json_object_set_new(call->answer, "key", key);
        return 0;
}

int api_key_show(struct api_call *call)
{
        int r = api_unpack(call, "{}");

        if (r == 0)
                r = cluster_sync(call->d);
        return r < 0 ? api_fail(call, r, "the store does not answer: %s", strerror(-r))
                     : answer(call);
}

int api_key_rotate(struct api_call *call)
{
        int r = api_unpack(call, "{}");

        if (r < 0)
                return r;
        r = cluster_sync(call->d);
        if (r == 0)
                r = key_rotate(call->d);
        if (r == -EBUSY)
                return api_fail(call, r,
                                "a rotation is under way: see \"slimctl key show\" for the hosts "
                                "that it waits for");
        if (r == 0)
                r = cluster_sync(call->d);
        if (r < 0)
                return api_fail(call, r, "the store does not answer: %s", strerror(-r));
        return answer(call);
}
