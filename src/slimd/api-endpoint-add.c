/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint.Add, .Attach, .Detach.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

/* --- what both are asked for ------------------------------------------------------------------ */

struct wanted {
        const char *name, *network, *addr[SLIM_FAMILIES];
        const json_t *publish, *ports, *limits;
        json_t *labels;
        struct publications publications;
        json_t *named; /* the ports, the caller's to give back */
};

#define WANTED_FORMAT "s:s, s?s, s?s, s?s, s?o, s?o, s?o, s?o"
#define WANTED_ARGUMENTS(w)                                                                       \
        "name", &(w)->name, "network", &(w)->network, "address", &(w)->addr[SLIM_V4], "address6", \
            &(w)->addr[SLIM_V6], "publish", &(w)->publish, "labels", &(w)->labels, "ports",       \
            &(w)->ports, "limits", &(w)->limits

static void wanted_done(struct wanted *w)
{
        json_decref(w->named);
}

static int check_addresses(struct api_call *call, const struct wanted *w, struct local_request *q)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (w->addr[f] &&
                    (inaddr_parse(w->addr[f], &q->addr[f]) < 0 || inaddr_family(&q->addr[f]) != f))
                        return api_fail(call, -EINVAL, "address \"%s\" is not an IPv%d address",
                                        w->addr[f], f == SLIM_V4 ? 4 : 6);
        return 0;
}

static int check_wanted(struct api_call *call, struct wanted *w, struct local_request *q)
{
        char problem[PUBLICATION_PROBLEM_MAX];
        _Static_assert(sizeof(problem) >= LABELING_PROBLEM_MAX, "a label's problem is longer");
        _Static_assert(sizeof(problem) >= LIMITS_PROBLEM_MAX, "a limit's problem is longer");
        struct named_ports named = {};
        int r;

        r = api_check_name(call, "name", w->name);
        if (r == 0)
                r = api_check_name(call, "network", w->network);
        if (r == 0)
                r = check_addresses(call, w, q);
        if (r < 0)
                return r;
        r = publications_from_json(w->publish, &w->publications, problem);
        if (r == 0)
                r = labeling_check(w->labels, false, problem);
        if (r == 0)
                r = named_ports_from_json(w->ports, &named, problem);
        if (r == 0)
                r = limits_from_json(w->limits, &q->limits, problem);
        if (r < 0)
                return api_fail(call, r, "%s", problem);
        w->named = named_ports_to_json(&named);
        if (named.n && !w->named)
                return -ENOMEM;
        q->name = w->name;
        q->network = w->network;
        q->publish = &w->publications;
        q->labels = json_object_size(w->labels) > 0 ? w->labels : NULL;
        q->ports = w->named;
        return 0;
}

static void answer(struct api_call *call, const struct endpoint *e)
{
        static const char *const gateways[SLIM_FAMILIES] = {GATEWAY_ADDRESS, IPV6_GATEWAY};
        static const char *const keys[SLIM_FAMILIES] = {"gateway", "gateway6"};

        json_object_set_new(call->answer, "endpoint", api_describe_endpoint(call->d, e));
        json_object_set_new(call->answer, "mtu", json_integer(call->d->container_mtu));
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                json_object_set_new(call->answer, keys[f],
                                    inaddr_is_none(&e->addr[f]) ? json_null()
                                                                : json_string(gateways[f]));
}

static int make(struct api_call *call, const struct wanted *w, const struct local_request *q,
                struct endpoint **ret)
{
        struct slimd *d = call->d;
        struct network *network;
        int r;

        r = limits_are_none(&q->limits) ? 0 : limit_prepare(d, &call->error);
        if (r < 0)
                return r;
        /* So that whoever was there before this container is known here when it runs. */
        r = cluster_sync(d);
        if (r < 0)
                return api_fail(call, -EAGAIN, "the store does not answer: %s", strerror(-r));
        r = api_want_network(call, w->network, &network);
        if (r < 0)
                return r;
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (w->addr[f] && !address_is_usable(network, &q->addr[f]))
                        return api_fail(call, -ERANGE,
                                        "address %s is not a container's in network \"%s\"",
                                        w->addr[f], network->name);
        r = local_add(d, q, ret, &call->error);
        if (r < 0) {
                limit_tidy(d);
                return r;
        }
        answer(call, *ret);
        return 0;
}

/* --- a container with a cgroup ---------------------------------------------------------------- */

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

static bool is_netns(int fd)
{
        struct statfs fs;

        return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC &&
               ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

static int check_fds(struct api_call *call, bool slim, pid_t pid)
{
        size_t want = slim ? 3 : 2;
        char path[64], link[64];
        ssize_t n;
        pid_t real;
        int r;

        if (call->n_fds != want)
                return api_fail(call, -EINVAL,
                                "an endpoint of this kind takes %zu descriptors, not %zu", want,
                                call->n_fds);
        if (!is_netns(call->fds[0]))
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
        _cleanup_(wanted_done) struct wanted w = {.network = POLICY_DEFAULT_NETWORK};
        struct local_request q = {.interface = "eth0"};
        struct endpoint *e = NULL;
        const char *kind;
        json_int_t pid;
        int r;

        r = api_unpack(call, "{" WANTED_FORMAT ", s:s, s:I}", WANTED_ARGUMENTS(&w), "kind", &kind,
                       "pid", &pid);
        if (r == 0)
                r = check_wanted(call, &w, &q);
        if (r < 0)
                return r;
        q.slim = strcmp(kind, "slim") == 0;
        if (!q.slim && strcmp(kind, "plain") != 0)
                return api_fail(call, -EINVAL, "kind \"%s\" is neither slim nor plain", kind);
        if (pid < 1 || pid > INT32_MAX)
                return api_fail(call, -EINVAL, "pid %lld is not a process", (long long)pid);
        r = check_fds(call, q.slim, (pid_t)pid);
        if (r < 0)
                return r;
        q.pid = (pid_t)pid;
        q.netns_fd = call->fds[0];
        q.notify_fd = q.slim ? call->fds[2] : -1;
        return make(call, &w, &q, &e);
}

/* --- a namespace that a runtime has made ------------------------------------------------------ */

/* Visible ASCII, since it stands in lists and logs. */
static int check_attachment(struct api_call *call, const char *id)
{
        size_t len = strlen(id);

        if (len < 1 || len > ATTACHMENT_MAX)
                return api_fail(call, -EINVAL, "an attachment has 1 to %d characters, not %zu",
                                ATTACHMENT_MAX, len);
        for (const char *p = id; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return api_fail(call, -EINVAL,
                                        "an attachment has visible ASCII characters and no blanks");
        return 0;
}

/* As the kernel takes it for a device, and a path of sysctl too. */
static int check_interface(struct api_call *call, const char *name)
{
        size_t len = strlen(name);
        bool bad = len < 1 || len > 15 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
                   strcmp(name, "lo") == 0;

        for (const char *p = name; *p; p++)
                bad |= *p <= ' ' || *p > '~' || *p == '/' || *p == ':' || *p == '%';
        return bad ? api_fail(call, -EINVAL, "interface \"%s\" is not a name for a device", name)
                   : 0;
}

static int check_netns(struct api_call *call, const char *path)
{
        struct stat own, st;

        if (path[0] != '/' || strlen(path) >= PATH_MAX)
                return api_fail(call, -EINVAL, "netns \"%s\" is not an absolute path", path);
        if (call->n_fds != 1)
                return api_fail(call, -EINVAL, "an attachment takes one descriptor, not %zu",
                                call->n_fds);
        if (!is_netns(call->fds[0]) || fstat(call->fds[0], &st) < 0)
                return api_fail(call, -EINVAL, "the descriptor is not a network namespace");
        if (stat("/proc/self/ns/net", &own) < 0)
                return -errno;
        return own.st_dev == st.st_dev && own.st_ino == st.st_ino
                   ? api_fail(call, -EINVAL, "the namespace is the host's own")
                   : 0;
}

/* Is that name free in the namespace? */
static int check_vacant(struct api_call *call, const char *interface)
{
        _cleanup_(netlink_freep) struct netlink *inside = NULL;
        struct netlink_link link;
        int r = netlink_open(call->fds[0], &inside);

        if (r < 0)
                return r;
        r = netlink_link_get(inside, interface, &link);
        if (r == 0)
                return api_fail(call, -EEXIST, "the namespace has an interface %s already",
                                interface);
        return r == -ENODEV ? 0 : r;
}

static json_t *mac_text(const uint8_t mac[6])
{
        return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                            mac[5]);
}

/* What a runtime wants to know besides. */
static void answer_attached(struct api_call *call, const struct endpoint *e)
{
        static const uint8_t device[] = LOCAL_DEVICE_MAC, interface[] = SLIM_CONTAINER_MAC;
        const struct local *l = local_find(call->d, e->id);
        json_t *routes = json_array();

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                char buf[INADDR_TEXT_MAX];
                const char *route = local_route(l, (enum slim_family)f, buf);

                if (route)
                        json_array_append_new(routes, json_string(route));
        }
        json_object_set_new(call->answer, "routes", routes);
        json_object_set_new(call->answer, "device_mac", mac_text(device));
        json_object_set_new(call->answer, "interface_mac", mac_text(interface));
}

int api_endpoint_attach(struct api_call *call)
{
        _cleanup_(wanted_done) struct wanted w = {.network = POLICY_DEFAULT_NETWORK};
        struct local_attachment attachment = {};
        struct local_request q = {.attachment = &attachment, .interface = "eth0", .notify_fd = -1};
        const struct local *other;
        struct endpoint *e = NULL;
        int held = false, r;

        r = api_unpack(call, "{" WANTED_FORMAT ", s:s, s:s, s?s, s?b}", WANTED_ARGUMENTS(&w),
                       "attachment", &attachment.id, "netns", &attachment.netns, "interface",
                       &q.interface, "ports_held", &held);
        if (r == 0)
                r = check_wanted(call, &w, &q);
        if (r == 0)
                r = check_attachment(call, attachment.id);
        if (r == 0)
                r = check_interface(call, q.interface);
        if (r == 0)
                r = check_netns(call, attachment.netns);
        if (r == 0)
                r = check_vacant(call, q.interface);
        if (r < 0)
                return r;
        other = local_find_attachment(call->d, attachment.id);
        if (other)
                return api_fail(call, -EEXIST, "attachment \"%s\" is there already, as endpoint %s",
                                attachment.id, local_endpoint(other)->name);
        q.netns_fd = call->fds[0];
        q.ports_held = held;
        r = make(call, &w, &q, &e);
        if (!e)
                return r;
        answer_attached(call, e);
        return 0;
}

int api_endpoint_detach(struct api_call *call)
{
        const char *attachment;
        int r;

        r = api_unpack(call, "{s:s}", "attachment", &attachment);
        if (r == 0)
                r = check_attachment(call, attachment);
        if (r < 0)
                return r;
        json_object_set_new(call->answer, "found", json_boolean(local_detach(call->d, attachment)));
        return 0;
}
