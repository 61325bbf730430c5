/* SPDX-License-Identifier: Apache-2.0 */
#include "local-private.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "address.h"
#include "cluster.h"
#include "host.h"
#include "limit.h"
#include "mirror.h"
#include "registry.h"
#include "supervise.h"

/* --- the table -------------------------------------------------------------------------------- */

struct local *local_find(const struct slimd *d, uint32_t id)
{
        struct local *l;

        HASH_FIND(hh, d->locals, &id, sizeof(id), l);
        return l;
}

struct local *local_find_attachment(const struct slimd *d, const char *id)
{
        for (struct local *l = d->locals; l; l = l->hh.next)
                if (l->attachment && strcmp(l->attachment, id) == 0)
                        return l;
        return NULL;
}

struct local *local_next(const struct slimd *d, const struct local *l)
{
        return l ? l->hh.next : d->locals;
}

const struct endpoint *local_endpoint(const struct local *l)
{
        return &l->e;
}

int local_netns(const struct local *l)
{
        return l->netns_fd;
}

const char *local_attachment(const struct local *l)
{
        return l->attachment;
}

int local_limits_error(const struct local *l)
{
        return l->limits_error;
}

bool local_is_published(const struct local *l)
{
        return l->published;
}

pid_t local_broker_pid(const struct local *l)
{
        return l->supervisor ? supervisor_pid(l->supervisor) : 0;
}

uint32_t local_ifindex(const struct local *l)
{
        return l->ifindex;
}

struct local *local_new(struct slimd *d, const struct endpoint *e)
{
        struct local *l = new0(struct local, 1);

        if (!l)
                return NULL;
        l->id = e->id;
        l->d = d;
        l->e = endpoint_copy(e);
        l->netns_fd = -1;
        snprintf(l->device, sizeof(l->device), "slim%08x", e->id);
        HASH_ADD(hh, d->locals, id, sizeof(l->id), l);
        return l;
}

static void local_free(struct local *l)
{
        HASH_DEL(l->d->locals, l);
        if (l->supervisor)
                supervisor_free(l->supervisor);
        sd_event_source_unref(l->end_source);
        reservation_done(&l->reserved);
        safe_close(l->netns_fd);
        free(l->attachment);
        free(l->netns);
        endpoint_clear(&l->e);
        free(l);
}

void local_forget_all(struct slimd *d)
{
        while (d->locals)
                local_free(d->locals);
}

/* Where what it takes of its share is counted. One that is there has been counting. */
int local_make_usage(const struct local *l)
{
        static const struct slim_usage none;
        int map = datapath_map_fd(l->d->dp, DATAPATH_USAGE);

        if (!l->e.slim || bpf_map_update_elem(map, &l->id, &none, BPF_NOEXIST) == 0)
                return 0;
        return errno == EEXIST ? 0 : -errno;
}

void local_take_changes(struct slimd *d, const struct endpoint *e)
{
        struct local *l = local_find(d, e->id);
        int r;

        if (!l || ((l->e.labels == e->labels || json_equal(l->e.labels, e->labels)) &&
                   limits_equal(&l->e.limits, &e->limits) && l->limits_error == 0))
                return;
        json_decref(l->e.labels);
        l->e.labels = e->labels ? json_incref(e->labels) : NULL;
        /* Before its devices are there, which is when the store has it first, bring_up() does it.
         */
        if (l->ifindex && (!limits_equal(&l->e.limits, &e->limits) || l->limits_error < 0)) {
                l->limits_error = limit_set(d, l->id, &e->limits);
                if (l->limits_error < 0)
                        log_error_errno(l->limits_error,
                                        "endpoint %s: cannot change its limits: %m", l->e.name);
        }
        l->e.limits = e->limits;
        r = local_state_save(l);
        if (r < 0)
                log_warning_errno(
                    r, "endpoint %s: cannot remember its labels and limits: %m, ignoring",
                    l->e.name);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Removes everything of a container, as far as it was made. */
void local_tear_down(struct local *l)
{
        struct slimd *d = l->d;
        _cleanup_(endpoint_clear) struct endpoint e = endpoint_copy(&l->e);
        char cgroup[PATH_MAX];

        log_debug("endpoint %s is gone", e.name);
        /* While the ports are still its own. */
        l->published = false;
        publish_end(d, &l->e);
        if (l->supervisor)
                supervisor_free(l->supervisor);
        l->supervisor = NULL;
        l->end_source = sd_event_source_unref(l->end_source);
        local_cgroup_path(l, "", cgroup);
        host_remove_cgroup(cgroup);
        local_remove_device(l);
        if (d->dp) {
                bpf_map_delete_elem(datapath_map_fd(d->dp, DATAPATH_USAGE), &e.id);
                (void)limit_set(d, l->id, &(struct limits){});
        }
        local_free(l);
        /* The file goes last but for the store: whoever finds it does all this again. */
        if (registry_withdraw(d, &e) < 0)
                log_warning("endpoint %s: the store still has it, until this host's lease ends",
                            e.name);
        local_state_remove(d, e.id);
}

bool local_detach(struct slimd *d, const char *attachment)
{
        struct local *l = local_find_attachment(d, attachment);

        if (l)
                local_tear_down(l);
        return l;
}

/* --- the beginning ---------------------------------------------------------------------------- */

int local_supervise(struct local *l, int notify_fd)
{
        char path[PATH_MAX];
        struct supervisor_options o = {
            .endpoint = &l->e,
            .cgroup = path,
            .netns_fd = l->e.slim ? l->netns_fd : -1,
            .notify_fd = notify_fd,
            .reserved = &l->reserved,
        };

        if (!l->e.slim && !l->reserved.n)
                return 0;
        local_cgroup_path(l, "/" CGROUP_BROKER, path);
        return supervisor_new(l->d, &o, &l->supervisor);
}

static int random_id(const struct slimd *d, uint32_t *ret)
{
        uint32_t id;

        do {
                if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                        return -errno;
        } while (id == 0 || model_endpoint(&d->model, id));
        *ret = id;
        return 0;
}

/* Which of an endpoint's keys is taken, in a sentence. */
static char *taken(const struct slimd *d, const struct endpoint *e)
{
        char addr[INADDR_TEXT_MAX];
        char *text = NULL;
        const struct endpoint *other = model_endpoint_by_name(&d->model, e->network, e->name);
        enum slim_family f = SLIM_V4;
        int n;

        if (inaddr_is_none(&e->addr[SLIM_V4]) ||
            (!inaddr_is_none(&e->addr[SLIM_V6]) &&
             model_endpoint_by_addr(&d->model, e->network_id, &e->addr[SLIM_V6])))
                f = SLIM_V6;
        if (other)
                n = asprintf(&text, "the name \"%s\" is taken in network %s (on host %s)", e->name,
                             e->network, other->host);
        else
                n = asprintf(&text, "the address %s is taken in network %s",
                             inaddr_format(&e->addr[f], addr), e->network);
        return n < 0 ? NULL : text;
}

/* Finds an id and an address and puts the endpoint into the store. */
static int publish(struct slimd *d, const struct local_request *q, const struct network *n,
                   struct endpoint *e, char **ret_error)
{
        int r = -EAGAIN;

        for (int tries = 0; r == -EAGAIN && tries < 64; tries++) {
                r = random_id(d, &e->id);
                if (r == 0 && model_endpoint_by_name(&d->model, e->network, e->name))
                        r = -EEXIST;
                memcpy(e->addr, q->addr, sizeof(e->addr));
                for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                        if (model_endpoint_by_addr(&d->model, n->id, &q->addr[f]))
                                r = -EEXIST;
                if (r == 0)
                        r = address_pick_all(d, n, e->addr);
                if (r == 0)
                        r = registry_publish(d, e);
                if (r == -EAGAIN && cluster_sync(d) < 0)
                        r = -EIO;
        }
        if (r == -EEXIST || r == -EAGAIN) {
                *ret_error = taken(d, e);
                return -EEXIST;
        }
        if (r == -ENOSPC && asprintf(ret_error, "network %s has no free address", n->name) < 0)
                *ret_error = NULL;
        return r;
}

/* Everything on this host. The first step that fails is named. */
static int bring_up(struct local *l, const struct local_request *q, const char **ret_step)
{
        const struct endpoint *known;
        int r;

        *ret_step = "remember it";
        r = local_state_save(l);
        if (r < 0)
                return r;
        *ret_step = "make its cgroup";
        r = local_bind(l, q->pid);
        if (r < 0)
                return r;
        *ret_step = "make its network device";
        r = local_make_device(l);
        if (r < 0)
                return r;
        *ret_step = "enter it into the data path";
        known = model_endpoint(&l->d->model, l->id);
        r = known && known->pending ? l->d->policy_error ?: -EAGAIN : mirror_endpoint(l->d, &l->e);
        if (r == 0)
                r = local_make_usage(l);
        if (r < 0)
                return r;
        *ret_step = "limit its bandwidth";
        r = limit_set(l->d, l->id, &l->e.limits);
        if (r < 0)
                return r;
        *ret_step = "start its broker";
        r = local_supervise(l, q->notify_fd);
        if (r < 0)
                return r;
        *ret_step = "publish its ports";
        l->published = true;
        return publish_begin(l->d, &l->e);
}

static bool wants_its_port(const struct local *l, const struct publications *wanted)
{
        uint16_t port;

        for (unsigned int i = 0; i < wanted->n; i++)
                for (unsigned int k = 0; k < l->e.publish.n; k++)
                        if (publication_overlaps(&wanted->v[i], &l->e.publish.v[k], &port))
                                return true;
        return false;
}

/* A container that has ended, which slimd is about to hear of, does not keep its name, address and
 * published ports from the next one: whoever has seen the end may use them again at once. */
static void clear_ended(struct slimd *d, const struct local_request *q)
{
        struct local *l, *next;

        HASH_ITER(hh, d->locals, l, next)
        {
                bool same = strcmp(l->e.name, q->name) == 0 ||
                            inaddr_is_one_of(&q->addr[SLIM_V4], l->e.addr) ||
                            inaddr_is_one_of(&q->addr[SLIM_V6], l->e.addr);

                same = same && strcmp(l->e.network, q->network) == 0;
                if ((same || wants_its_port(l, q->publish)) && local_has_ended(l))
                        local_tear_down(l);
        }
}

int local_add(struct slimd *d, const struct local_request *q, struct endpoint **ret,
              char **ret_error)
{
        struct endpoint e = {
            .slim = q->slim,
            .publish = *q->publish,
            .labels = q->labels,
            .ports = q->ports,
            .limits = q->limits,
        };
        _cleanup_(reservation_done) struct reservation reserved = {};
        const char *step = "publish it";
        struct network *n;
        struct local *l;
        int r;

        *ret_error = NULL;
        memcpy(e.host_addr, d->underlay_addr, sizeof(e.host_addr));
        clear_ended(d, q);
        n = model_network(&d->model, q->network); /* that has synced: it may be gone */
        if (!n)
                return -ENOENT;
        snprintf(e.name, sizeof(e.name), "%s", q->name);
        snprintf(e.network, sizeof(e.network), "%s", q->network);
        snprintf(e.host, sizeof(e.host), "%s", d->opt.host_name);
        e.network_id = n->id;

        /* Published ports before all else: nothing of the container is there when one is taken. */
        r = publish_check(d, &e, n, ret_error);
        if (r == 0 && !q->ports_held) {
                r = reservation_new(&e, &reserved);
                if (r == 0)
                        r = reservation_bind(&e, &reserved, ret_error);
        }
        if (r < 0)
                return r;

        /* First the store, which decides who has the name and the address, then the rest. */
        r = publish(d, q, n, &e, ret_error);
        if (r < 0 && *ret_error)
                return r;
        if (r == 0) {
                l = local_new(d, &e);
                if (l)
                        l->netns_fd = fcntl(q->netns_fd, F_DUPFD_CLOEXEC, 0);
                r = !l ? -ENOMEM : l->netns_fd < 0 ? -errno : 0;
                if (r == 0)
                        r = local_set_bond(l, q->attachment, q->interface);
                if (l) {
                        l->ports_held = q->ports_held;
                        l->reserved = reserved;
                        reserved = (struct reservation){};
                }
                if (r == 0)
                        r = cluster_sync(d);
                if (r == 0)
                        r = bring_up(l, q, &step);
                if (r < 0 && l)
                        local_tear_down(l);
                else if (r < 0)
                        (void)registry_withdraw(d, &e);
        }
        if (r < 0) {
                if (asprintf(ret_error, "cannot %s: %s", step, strerror(-r)) < 0)
                        *ret_error = NULL;
                return r;
        }
        *ret = model_endpoint(&d->model, e.id);
        return *ret ? 0 : -ENOENT;
}

void local_remove_all(struct slimd *d)
{
        struct local *l, *next;

        HASH_ITER(hh, d->locals, l, next)
        {
                local_tear_down(l);
        }
}
