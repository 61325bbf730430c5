/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "datapath.h"
#include "ipv6.h"
#include "local.h"

/* What waits for a limit is what comes in this time, or a few of the largest packets. */
#define QUEUE_MSEC      25
#define QUEUE_BYTES_MIN (128U << 10)

/* As long as a frame can be, so that what passes the loopback device passes here. */
#define LIMITER_MTU 65535

#define ACCEPT_LOCAL "/proc/sys/net/ipv4/conf/lo/accept_local"

static int limits_fd(const struct slimd *d)
{
        return datapath_map_fd(d->dp, DATAPATH_LIMITS);
}

static int classes_fd(const struct slimd *d)
{
        return datapath_map_fd(d->dp, DATAPATH_LIMIT_CLASSES);
}

/* --- the limiter ------------------------------------------------------------------------------ */

static int limiter_make(struct slimd *d)
{
        static const uint8_t near_mac[6] = {0x02, 0x51, 0x1e, 0x00, 0x00, 0x04};
        static const uint8_t far_mac[6] = {0x02, 0x51, 0x1e, 0x00, 0x00, 0x05};
        _cleanup_close_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        int r;

        if (here < 0)
                return -errno;
        r = netlink_veth_add(d->nl, LIMITER_NEAR, near_mac, LIMITER_FAR, far_mac, here,
                             LIMITER_MTU);
        if (r == 0)
                r = ipv6_set_device(-1, LIMITER_NEAR, IPV6_OFF);
        return r;
}

/* The devices whose packets are limited. */
static int each_device(struct slimd *d, int (*visit)(struct slimd *d, uint32_t ifindex))
{
        struct netlink_link lo = {};
        int r = netlink_link_get(d->nl, "lo", &lo), k;

        if (r == 0)
                r = visit(d, lo.ifindex);
        k = visit(d, d->underlay.ifindex);
        return r < 0 ? r : k;
}

static int attach(struct slimd *d, uint32_t ifindex)
{
        return datapath_attach(d->dp, ifindex, DATAPATH_LIMITED);
}

static int detach(struct slimd *d, uint32_t ifindex)
{
        return datapath_detach_limited(ifindex);
}

/* The near end. -ENODEV: it is not there. -EEXIST: something else has its name. */
static int find_near(struct slimd *d, struct netlink_link *ret)
{
        int r = netlink_link_get(d->nl, LIMITER_NEAR, ret);

        return r == 0 && strcmp(ret->kind, "veth") != 0 ? -EEXIST : r;
}

/* Programs last: nothing is sent into a limiter that is not ready. */
static int limiter_up(struct slimd *d, const char **ret_step)
{
        struct netlink_link near = {}, far = {};
        int r;

        *ret_step = "make the device " LIMITER_NEAR;
        r = find_near(d, &near);
        if (r == -ENODEV) {
                r = limiter_make(d);
                if (r == 0)
                        r = find_near(d, &near);
        }
        if (r == 0)
                r = netlink_link_get(d->nl, LIMITER_FAR, &far);
        if (r < 0)
                return r;
        *ret_step = "add HTB to " LIMITER_NEAR ", which the kernel may lack";
        r = netlink_htb_add(d->nl, near.ifindex, SLIM_LIMIT_HANDLE);
        if (r < 0)
                return r;
        *ret_step = "set the limiter's devices up";
        r = datapath_attach(d->dp, far.ifindex, DATAPATH_LIMITER);
        if (r == 0)
                r = netlink_link_up(d->nl, far.ifindex);
        if (r == 0)
                r = netlink_link_up(d->nl, near.ifindex);
        if (r == 0)
                r = write_file_at(AT_FDCWD, ACCEPT_LOCAL, "1");
        if (r < 0)
                return r;
        *ret_step = "attach the programs that limit";
        r = each_device(d, attach);
        if (r == 0)
                d->limiter_ifindex = near.ifindex;
        return r;
}

void limit_remove(struct slimd *d)
{
        struct netlink_link near;
        int r;

        d->limiter_ifindex = 0;
        (void)each_device(d, detach);
        r = find_near(d, &near);
        if (r == 0)
                r = netlink_link_del(d->nl, LIMITER_NEAR); /* and the far end with it */
        if (r < 0 && r != -ENODEV && r != -EEXIST)
                log_warning_errno(r, "cannot remove the device " LIMITER_NEAR ": %m, ignoring");
}

int limit_prepare(struct slimd *d, char **ret_error)
{
        const char *step;
        int r;

        *ret_error = NULL;
        if (d->limiter_ifindex)
                return 0;
        if (!d->underlay.ethernet) {
                if (asprintf(ret_error,
                             "bandwidth cannot be limited here: the underlay device %s is not an "
                             "Ethernet device",
                             d->underlay.name) < 0)
                        *ret_error = NULL;
                return -EOPNOTSUPP;
        }
        r = limiter_up(d, &step);
        if (r < 0) {
                if (asprintf(ret_error, "bandwidth cannot be limited here: cannot %s: %s", step,
                             strerror(-r)) < 0)
                        *ret_error = NULL;
                limit_remove(d);
        }
        return r;
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Also of a limiter that an earlier slimd has left. */
static void delete_class(struct slimd *d, uint16_t minor)
{
        struct netlink_link near;

        if (find_near(d, &near) == 0)
                (void)netlink_htb_class_del(d->nl, near.ifindex, SLIM_LIMIT_HANDLE, minor);
}

static void release_class(struct slimd *d, uint16_t minor)
{
        uint32_t key = minor;

        if (!minor)
                return;
        delete_class(d, minor);
        (void)bpf_map_delete_elem(classes_fd(d), &key);
}

/* A number that no class has, taken for this endpoint. */
static int take_class(struct slimd *d, uint32_t endpoint, uint16_t *ret)
{
        for (uint32_t minor = 1; minor <= UINT16_MAX; minor++) {
                if (bpf_map_update_elem(classes_fd(d), &minor, &endpoint, BPF_NOEXIST) == 0) {
                        *ret = (uint16_t)minor;
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -ENOSPC;
}

static int put_class(struct slimd *d, uint32_t endpoint, uint64_t rate, uint16_t *minor)
{
        uint64_t bytes = rate / 8, queue = bytes * QUEUE_MSEC / 1000;
        int r = *minor ? 0 : take_class(d, endpoint, minor);

        if (r < 0)
                return r;
        if (queue < QUEUE_BYTES_MIN)
                queue = QUEUE_BYTES_MIN;
        if (queue > UINT32_MAX)
                queue = UINT32_MAX;
        return netlink_htb_class_put(d->nl, d->limiter_ifindex, SLIM_LIMIT_HANDLE, *minor, bytes,
                                     (uint32_t)queue);
}

/* What an earlier slimd, or this one, has put into the map; all zero: nothing. */
static struct slim_limit known(const struct slimd *d, uint32_t endpoint)
{
        struct slim_limit l = {};

        if (bpf_map_lookup_elem(limits_fd(d), &endpoint, &l) < 0)
                return (struct slim_limit){};
        return l;
}

static bool is_empty(int map_fd)
{
        uint32_t key;

        return bpf_map_get_next_key(map_fd, NULL, &key) < 0 && errno == ENOENT;
}

void limit_tidy(struct slimd *d)
{
        struct netlink_link near;

        if (is_empty(limits_fd(d)) && (d->limiter_ifindex || find_near(d, &near) == 0))
                limit_remove(d);
}

static void drop(struct slimd *d, uint32_t endpoint)
{
        struct slim_limit old = known(d, endpoint);

        if (bpf_map_delete_elem(limits_fd(d), &endpoint) < 0)
                return; /* it had none */
        for (int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                release_class(d, old.class_minor[i]);
        limit_tidy(d);
}

static int put(struct slimd *d, uint32_t endpoint, const struct limits *l)
{
        struct slim_limit old = known(d, endpoint);
        struct slim_limit new = {
            .ifindex = d->limiter_ifindex,
            .dscp = l->has_dscp ? l->dscp : SLIM_NO_DSCP,
            .priority = l->has_priority ? l->priority : SLIM_NO_PRIORITY,
        };
        int r = 0;

        for (int i = 0; r == 0 && i < SLIM_POLICY_DIRECTIONS; i++) {
                if (!l->rate[i])
                        continue;
                new.class_minor[i] = old.class_minor[i];
                r = put_class(d, endpoint, l->rate[i], &new.class_minor[i]);
        }
        if (r == 0 && bpf_map_update_elem(limits_fd(d), &endpoint, &new, BPF_ANY) < 0)
                r = -errno;
        /* After a failure the old entry is in force, with the classes that it had. */
        for (int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                if (old.class_minor[i] != new.class_minor[i])
                        release_class(d, r < 0 ? new.class_minor[i] : old.class_minor[i]);
        return r;
}

int limit_set(struct slimd *d, uint32_t endpoint, const struct limits *l)
{
        _cleanup_free_ char *error = NULL;
        int r;

        if (limits_are_none(l)) {
                drop(d, endpoint);
                return 0;
        }
        r = limit_prepare(d, &error);
        if (r < 0)
                return error ? log_error_errno(r, "%s", error) : r;
        return put(d, endpoint, l);
}

static bool keep_limit(const void *key, void *userdata)
{
        return local_find(userdata, *(const uint32_t *)key);
}

static bool keep_class(const void *key, void *userdata)
{
        const uint32_t *minor = key;
        struct slimd *d = userdata;
        uint32_t endpoint;
        struct slim_limit l;

        if (bpf_map_lookup_elem(classes_fd(d), minor, &endpoint) < 0)
                return true;
        l = known(d, endpoint);
        if (l.class_minor[SLIM_POLICY_INGRESS] == *minor ||
            l.class_minor[SLIM_POLICY_EGRESS] == *minor)
                return true;
        delete_class(d, (uint16_t)*minor);
        return false;
}

void limit_prune(struct slimd *d)
{
        int r = datapath_map_prune(d->dp, DATAPATH_LIMITS, sizeof(uint32_t), keep_limit, d);

        if (r == 0)
                r = datapath_map_prune(d->dp, DATAPATH_LIMIT_CLASSES, sizeof(uint32_t), keep_class,
                                       d);
        if (r < 0)
                log_error_errno(r, "cannot clean the maps of limits: %m, ignoring");
        limit_tidy(d);
}
