/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint.Add, .List, .Show, .Label, .Limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"
#include "address.h"
#include "api.h"
#include "cluster.h"
#include "host.h"
#include "ipv6.h"
#include "limit.h"
#include "local.h"
#include "mirror.h"
#include "registry.h"

static json_t *labels_of(const struct endpoint *e)
{
        _cleanup_(labels_clear) struct labels labels = {};

        return endpoint_labels(e, &labels) < 0 ? NULL : labels_to_json(&labels);
}

static json_t *describe(const struct slimd *d, const struct endpoint *e)
{
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX], host_buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES], *host[SLIM_FAMILIES];
        const struct local *l = local_find(d, e->id);
        json_t *j;

        addrs_format(e->addr, buf, addr);
        addrs_format(e->host_addr, host_buf, host);
        j = json_pack("{s:s, s:s, s:I, s:s?, s:s?, s:s, s:s?, s:s?, s:s, s:b}", "name", e->name,
                      "network", e->network, "id", (json_int_t)e->id, "address", addr[SLIM_V4],
                      "address6", addr[SLIM_V6], "host", e->host, "host_address", host[SLIM_V4],
                      "host_address6", host[SLIM_V6], "kind", endpoint_kind(e), "local",
                      mirror_is_local(d, e));
        if (j) {
                json_object_set_new(j, "publish", publications_to_json(&e->publish));
                json_object_set_new(j, "labels", labels_of(e));
                json_object_set_new(j, "ports", e->ports ? json_incref(e->ports) : json_object());
                json_object_set_new(j, "limits", limits_to_json(&e->limits) ?: json_object());
        }
        if (j && l)
                local_describe(l, j);
        return j;
}

/* The pid that a pidfd stands for (proc(5), fdinfo). */
static int pidfd_pid(int fd, pid_t *ret)
{
        _cleanup_free_ char *text = NULL;
        char path[64];
        const char *line;
        long pid;
        int r;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        r = read_file_at(AT_FDCWD, path, 4096, &text, NULL);
        if (r < 0)
                return r;
        line = strstr(text, "\nPid:");
        if (!line)
                return -EBADF;
        pid = strtol(line + 5, NULL, 10);
        if (pid <= 0)
                return -ESRCH;
        *ret = (pid_t)pid;
        return 0;
}

static int check_fds(struct api_call *call, bool slim, pid_t pid)
{
        size_t want = slim ? 3 : 2;
        struct statfs fs;
        char path[64], link[64];
        ssize_t n;
        pid_t real;
        int r;

        if (call->n_fds != want)
                return api_fail(call, -EINVAL,
                                "an endpoint of this kind takes %zu descriptors, not %zu", want,
                                call->n_fds);
        if (fstatfs(call->fds[0], &fs) < 0 || fs.f_type != NSFS_MAGIC ||
            ioctl(call->fds[0], NS_GET_NSTYPE) != CLONE_NEWNET)
                return api_fail(call, -EINVAL, "the first descriptor is not a network namespace");
        r = pidfd_pid(call->fds[1], &real);
        if (r == -ESRCH)
                return api_fail(call, r, "the container has ended already");
        if (r < 0 || real != pid)
                return api_fail(call, -EINVAL, "the second descriptor is not a pidfd of process %d",
                                pid);
        if (!slim)
                return 0;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", call->fds[2]);
        n = readlink(path, link, sizeof(link) - 1);
        if (n < 0 || strncmp(link, "anon_inode:seccomp notify", (size_t)n) != 0)
                return api_fail(call, -EINVAL,
                                "the third descriptor is not one of seccomp notifications");
        return 0;
}

int api_endpoint_add(struct api_call *call)
{
        const char *name, *network_name = POLICY_DEFAULT_NETWORK, *addr_text[SLIM_FAMILIES] = {},
                          *kind;
        char problem[PUBLICATION_PROBLEM_MAX];
        _Static_assert(sizeof(problem) >= LABELING_PROBLEM_MAX, "a label's problem is longer");
        _Static_assert(sizeof(problem) >= LIMITS_PROBLEM_MAX, "a limit's problem is longer");
        struct publications publish;
        const json_t *publish_list = NULL, *port_list = NULL, *limits = NULL;
        _cleanup_json_ json_t *ports = NULL;
        struct named_ports named = {};
        json_t *labels = NULL;
        struct local_request q = {};
        struct slimd *d = call->d;
        struct network *network;
        struct endpoint *e;
        json_int_t pid;
        bool slim;
        int r;

        r = api_unpack(call, "{s:s, s?s, s?s, s?s, s:s, s:I, s?o, s?o, s?o, s?o}", "name", &name,
                       "network", &network_name, "address", &addr_text[SLIM_V4], "address6",
                       &addr_text[SLIM_V6], "kind", &kind, "pid", &pid, "publish", &publish_list,
                       "labels", &labels, "ports", &port_list, "limits", &limits);
        if (r == 0)
                r = api_check_name(call, "name", name);
        if (r == 0)
                r = api_check_name(call, "network", network_name);
        if (r < 0)
                return r;
        slim = strcmp(kind, "slim") == 0;
        if (!slim && strcmp(kind, "plain") != 0)
                return api_fail(call, -EINVAL, "kind \"%s\" is neither slim nor plain", kind);
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (addr_text[f] &&
                    (inaddr_parse(addr_text[f], &q.addr[f]) < 0 || inaddr_family(&q.addr[f]) != f))
                        return api_fail(call, -EINVAL, "address \"%s\" is not an IPv%d address",
                                        addr_text[f], f == SLIM_V4 ? 4 : 6);
        if (pid < 1 || pid > INT32_MAX)
                return api_fail(call, -EINVAL, "pid %lld is not a process", (long long)pid);
        r = publications_from_json(publish_list, &publish, problem);
        if (r == 0)
                r = labeling_check(labels, false, problem);
        if (r == 0)
                r = named_ports_from_json(port_list, &named, problem);
        if (r == 0)
                r = limits_from_json(limits, &q.limits, problem);
        if (r < 0)
                return api_fail(call, r, "%s", problem);
        ports = named_ports_to_json(&named);
        if (named.n && !ports)
                return -ENOMEM;
        r = check_fds(call, slim, (pid_t)pid);
        if (r < 0)
                return r;
        r = limits_are_none(&q.limits) ? 0 : limit_prepare(d, &call->error);
        if (r < 0)
                return r;

        /* So that whoever was there before this container is known here when it runs. */
        r = cluster_sync(d);
        if (r < 0)
                return api_fail(call, r, "the store does not answer: %s", strerror(-r));
        r = api_want_network(call, network_name, &network);
        if (r < 0)
                return r;
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (addr_text[f] && !address_is_usable(network, &q.addr[f]))
                        return api_fail(call, -ERANGE,
                                        "address %s is not a container's in network \"%s\"",
                                        addr_text[f], network->name);

        q.name = name;
        q.network = network_name;
        q.publish = &publish;
        q.labels = json_object_size(labels) > 0 ? labels : NULL;
        q.ports = ports;
        q.slim = slim;
        q.pid = (pid_t)pid;
        q.netns_fd = call->fds[0];
        q.notify_fd = slim ? call->fds[2] : -1;
        r = local_add(d, &q, &e, &call->error);
        if (r < 0) {
                limit_tidy(d);
                return r;
        }
        json_object_set_new(call->answer, "endpoint", describe(d, e));
        json_object_set_new(call->answer, "mtu", json_integer(d->container_mtu));
        json_object_set_new(call->answer, "gateway",
                            inaddr_is_none(&e->addr[SLIM_V4]) ? json_null()
                                                              : json_string(GATEWAY_ADDRESS));
        json_object_set_new(call->answer, "gateway6",
                            inaddr_is_none(&e->addr[SLIM_V6]) ? json_null()
                                                              : json_string(IPV6_GATEWAY));
        return 0;
}

int api_endpoint_list(struct api_call *call)
{
        const char *network = NULL;
        json_t *list;
        int all = 0, r;

        r = api_unpack(call, "{s?s, s?b}", "network", &network, "all", &all);
        if (r == 0 && network)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        if (network && !model_network(&call->d->model, network))
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", network);
        list = json_array();
        for (struct endpoint *e = call->d->model.endpoints; e; e = e->hh.next)
                if ((all || !e->is_host) && (!network || strcmp(network, e->network) == 0))
                        json_array_append_new(list, describe(call->d, e));
        json_object_set_new(call->answer, "endpoints", list);
        return 0;
}

/* A container that a call names. */
static int find(struct api_call *call, const char *name, const char *network,
                const struct endpoint **ret)
{
        int r = api_check_name(call, "name", name);

        if (r == 0)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        *ret = model_endpoint_by_name(&call->d->model, network, name);
        return *ret ? 0
                    : api_fail(call, -ENOENT, "endpoint \"%s\" does not exist in network \"%s\"",
                               name, network);
}

int api_endpoint_show(struct api_call *call)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        const struct endpoint *e = NULL;
        int r;

        r = api_unpack(call, "{s:s, s?s}", "name", &name, "network", &network);
        if (r == 0)
                r = find(call, name, network, &e);
        if (!e)
                return r;
        json_object_set_new(call->answer, "endpoint", describe(call->d, e));
        return 0;
}

/* What a call changes about a container of this host: its labels or its limits. */
struct change {
        const char *verb, *what;
        int (*change)(struct slimd *d, const struct endpoint *e, const json_t *set,
                      const json_t *remove, char *problem);
};

static int change(struct api_call *call, const struct change *c, const struct endpoint **ret)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        char problem[LABELING_PROBLEM_MAX] = "";
        _Static_assert(sizeof(problem) >= LIMITS_PROBLEM_MAX, "a limit's problem is longer");
        const json_t *set = NULL, *remove = NULL;
        const struct endpoint *e = NULL;
        uint32_t id;
        int r;

        r = api_unpack(call, "{s:s, s?s, s?o, s?o}", "name", &name, "network", &network, "set",
                       &set, "remove", &remove);
        if (r == 0)
                r = find(call, name, network, &e);
        if (!e)
                return r;
        /* Its entry hangs on its host's lease, which nobody else can put it on again. */
        if (!mirror_is_local(call->d, e))
                return api_fail(call, -EREMOTE,
                                "endpoint \"%s\" lives on host %s, and only there its %s are "
                                "changed",
                                name, e->host, c->what);
        id = e->id;
        r = c->change(call->d, e, set, remove, problem);
        e = model_endpoint(&call->d->model, id);
        if (r < 0 && *problem)
                return api_fail(call, r, "%s", problem);
        if (r == 0 && !e)
                r = -ENOENT;
        if (r < 0)
                return api_fail(call, r, "cannot %s endpoint \"%s\": %s", c->verb, name,
                                strerror(-r));
        *ret = e;
        json_object_set_new(call->answer, "endpoint", describe(call->d, e));
        return 0;
}

int api_endpoint_label(struct api_call *call)
{
        static const struct change labels = {"label", "labels", registry_label_endpoint};
        const struct endpoint *e = NULL;

        return change(call, &labels, &e);
}

int api_endpoint_limit(struct api_call *call)
{
        static const struct change limits = {"limit", "limits", registry_limit_endpoint};
        const struct endpoint *e = NULL;
        const struct local *l;
        int r;

        /* Whether this host can is said before anything is written. */
        if (json_object_size(json_object_get(call->parameters, "set")) > 0) {
                r = limit_prepare(call->d, &call->error);
                if (r < 0)
                        return r;
        }
        r = change(call, &limits, &e);
        limit_tidy(call->d);
        if (!e)
                return r;
        l = local_find(call->d, e->id);
        r = l ? local_limits_error(l) : 0;
        return r < 0 ? api_fail(call, r, "its limits are stored but not in force: %s", strerror(-r))
                     : 0;
}
