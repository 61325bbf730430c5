/* SPDX-License-Identifier: Apache-2.0 */
#include "environment.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

/* --- variables -------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool cni_id_is_valid(const char *id)
{
        if (!is_alnum(id[0]) || strlen(id) > CNI_ID_MAX)
                return false;
        for (; *id; id++)
                if (!is_alnum(*id) && !strchr("_.-", *id))
                        return false;
        return true;
}

/* As the kernel takes it for a device. */
static bool is_interface(const char *name)
{
        size_t len = strlen(name);

        if (len < 1 || len > 15 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return false;
        for (; *name; name++)
                if (*name <= ' ' || *name > '~' || strchr("/:%", *name))
                        return false;
        return true;
}

/* An empty one is as good as none. */
static const char *get(const char *name)
{
        const char *value = getenv(name);

        return value && value[0] ? value : NULL;
}

static int check(const char *name, const char *value, bool (*is_valid)(const char *value),
                 struct cni_error *e)
{
        if (!value)
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "%s is missing", name);
        if (!is_valid(value))
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "%s \"%s\" is not valid", name, value);
        return 0;
}

static bool is_path(const char *path)
{
        return path[0] == '/';
}

int cni_environment_read(bool want_netns, struct cni_environment *ret, struct cni_error *e)
{
        struct cni_environment env = {
            .container = get("CNI_CONTAINERID"),
            .netns = get("CNI_NETNS"),
            .interface = get("CNI_IFNAME"),
            .args = get("CNI_ARGS"),
        };
        int r;

        r = check("CNI_CONTAINERID", env.container, cni_id_is_valid, e);
        if (r == 0)
                r = check("CNI_IFNAME", env.interface, is_interface, e);
        if (r == 0 && want_netns)
                r = check("CNI_NETNS", env.netns, is_path, e);
        if (r == 0)
                *ret = env;
        return r;
}

/* --- CNI_ARGS --------------------------------------------------------------------------------- */

/* What Kubernetes' runtimes say besides: known, but of no use here. */
static const char *const unused[] = {"IgnoreUnknown", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"};

void cni_args_done(struct cni_args *a)
{
        free(a->pod);
        free(a->namespace);
        free(a->addresses);
        *a = (struct cni_args){};
}

static bool is_true(const char *value)
{
        return strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 ||
               strcasecmp(value, "t") == 0;
}

static int take(char **to, const char *value)
{
        free(*to);
        *to = value[0] ? strdup(value) : NULL;
        return value[0] && !*to ? -ENOMEM : 0;
}

/* One KEY=VALUE. *unknown: the key, if nobody here knows it. */
static int take_pair(struct cni_args *a, char *pair, bool *ignore, const char **unknown,
                     struct cni_error *e)
{
        char *value = strchr(pair, '=');
        int r = 0;

        if (!value || value == pair)
                return cni_fail(e, CNI_ERROR_ENVIRONMENT, "CNI_ARGS: \"%s\" is not KEY=VALUE",
                                pair);
        *value++ = '\0';
        if (strcmp(pair, "K8S_POD_NAME") == 0)
                r = take(&a->pod, value);
        else if (strcmp(pair, "K8S_POD_NAMESPACE") == 0)
                r = take(&a->namespace, value);
        else if (strcmp(pair, "IP") == 0)
                r = take(&a->addresses, value);
        else if (strcmp(pair, unused[0]) == 0)
                *ignore = is_true(value);
        else
                *unknown = pair;
        for (size_t i = 0; i < ARRAY_SIZE(unused); i++)
                if (strcmp(pair, unused[i]) == 0)
                        *unknown = NULL;
        return r < 0 ? cni_fail(e, CNI_ERROR_MEMORY, "out of memory") : 0;
}

int cni_args_parse(const char *text, struct cni_args *ret, struct cni_error *e)
{
        _cleanup_(cni_args_done) struct cni_args a = {};
        _cleanup_free_ char *copy = strdup(text ?: "");
        const char *unknown = NULL;
        bool ignore = false;
        char *rest = copy;
        int r = 0;

        if (!copy)
                return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        while (r == 0 && text && rest) {
                const char *stranger = NULL;
                char *pair = strsep(&rest, ";");

                r = take_pair(&a, pair, &ignore, &stranger, e);
                unknown = unknown ?: stranger;
        }
        if (r == 0 && unknown && !ignore)
                r = cni_fail(e, CNI_ERROR_ENVIRONMENT,
                             "CNI_ARGS: \"%s\" is not known, and IgnoreUnknown=1 is not there",
                             unknown);
        if (r < 0)
                return r;
        *ret = a;
        a = (struct cni_args){};
        return 0;
}
