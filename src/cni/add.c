/* SPDX-License-Identifier: Apache-2.0 */
/* ADD, DEL. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "name.h"
#include "operations.h"
#include "result.h"
#include "slimd.h"

static int open_netns(const char *path, int *ret, struct cni_error *e)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct statfs fs;

        if (fd < 0)
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "CNI_NETNS \"%s\": %s", path,
                                strerror(errno));
        if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC)
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "CNI_NETNS \"%s\" is not a namespace",
                                path);
        *ret = TAKE_FD(fd);
        return 0;
}

/* As podman gives them. Those that "runtimeConfig" has come first. */
static int take_addresses(const struct cni_args *args, json_t *parameters, struct cni_error *e)
{
        char *rest = args->addresses;

        if (json_object_get(parameters, "address") || json_object_get(parameters, "address6"))
                return 0;
        while (rest) {
                const char *text = strsep(&rest, ",");
                int r = cni_address_add(parameters, text);

                if (r < 0)
                        return cni_fail(
                            e, CNI_ERROR_ENVIRONMENT, "CNI_ARGS: IP: \"%s\" is %s", text,
                            r == -EEXIST ? "the second one of its family" : "not an IP address");
        }
        return 0;
}

static int describe(const struct cni_config *c, const struct cni_environment *env,
                    const char *attachment, json_t **ret, struct cni_error *e)
{
        _cleanup_(cni_args_done) struct cni_args args = {};
        _cleanup_json_ json_t *parameters = NULL;
        char name[NAME_LEN_MAX + 1];
        int r = cni_args_parse(env->args, &args, e);

        if (r < 0)
                return r;
        cni_endpoint_name(args.pod ?: env->container, env->interface, name);
        parameters =
            json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", name, "network",
                      c->network       ? c->network
                      : args.namespace ? args.namespace
                                       : "default",
                      "attachment", attachment, "netns", env->netns, "interface", env->interface);
        if (!parameters)
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "CNI_NETNS and CNI_ARGS are not UTF-8");
        json_object_set_new(parameters, "ports_held", json_boolean(c->ports_held));
        r = cni_runtime_parse(c->runtime, parameters, e);
        if (r == 0)
                r = take_addresses(&args, parameters, e);
        if (r == 0)
                *ret = TAKE_PTR(parameters);
        return r;
}

int cni_add(const struct cni_config *c, json_t **ret, struct cni_error *e)
{
        _cleanup_json_ json_t *parameters = NULL, *answer = NULL;
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_free_ char *attachment = NULL;
        _cleanup_close_ int netns = -1;
        struct cni_environment env;
        int r;

        r = cni_environment_read(true, &env, e);
        if (r < 0)
                return r;
        if (c->previous)
                return cni_fail(e, CNI_ERROR_CONFIG,
                                "\"prevResult\": slim-cni makes the interface, and so is the first "
                                "plugin of a list");
        attachment = cni_attachment(c, env.container, env.interface);
        if (!attachment)
                return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        r = describe(c, &env, attachment, &parameters, e);
        if (r == 0)
                r = open_netns(env.netns, &netns, e);
        if (r == 0)
                r = cni_slimd_connect(c, &rpc, e);
        if (r == 0)
                r = cni_slimd_call(rpc, "attach the container", "Endpoint.Attach",
                                   TAKE_PTR(parameters), &netns, 1, &answer, e);
        if (r < 0)
                return r;
        *ret = cni_result(c, &env, answer);
        if (*ret)
                return 0;
        r = cni_fail(e, CNI_ERROR_REFUSED, "slimd's answer is not one: is it another version?");
        (void)cni_slimd_detach(rpc, attachment, e);
        return r;
}

/* What is not there is as good as removed. */
int cni_del(const struct cni_config *c, struct cni_error *e)
{
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_free_ char *attachment = NULL;
        struct cni_environment env;
        int r;

        r = cni_environment_read(false, &env, e);
        if (r < 0)
                return r;
        attachment = cni_attachment(c, env.container, env.interface);
        if (!attachment)
                return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        r = cni_slimd_connect(c, &rpc, e);
        return r < 0 ? r : cni_slimd_detach(rpc, attachment, e);
}
