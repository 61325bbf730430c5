/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "host.h"
#include "key.h"
#include "local.h"
#include "mirror.h"
#include "policy.h"
#include "registry.h"
#include "stack.h"

/* A host that is not heard of for this long is taken for dead, and its endpoints with it. */
#define LEASE_TTL_S  60
#define LEASE_KEEP_S 15
/* How soon a store that does not answer is asked again. */
#define RETRY_S 2

/* --- the store as a whole --------------------------------------------------------------------- */

void cluster_store_failed(struct slimd *d, int r)
{
        const char *why = r == -EIDRM ? "it was removed or replaced" : strerror(-r);
        uint64_t now;

        if (!d->store_error) {
                d->store_down_since = time(NULL);
                log_warning("the store %s does not answer: %s, going on with what is known",
                            d->opt.store, why);
                if (d->store_timer && sd_event_now(d->event, CLOCK_BOOTTIME, &now) >= 0)
                        sd_event_source_set_time(d->store_timer, now + RETRY_S * 1000000ULL);
        }
        free(d->store_error);
        d->store_error = strdup(why);
}

static void store_answered(struct slimd *d)
{
        if (!d->store_error)
                return;
        log_info("the store %s answers again", d->opt.store);
        free(d->store_error);
        d->store_error = NULL;
        d->store_down_since = 0;
}

/* What the maps have of the endpoints of an old model, for those of the new one. */
static void take_identities(const struct model *new, const struct model *old)
{
        for (struct endpoint *e = new->endpoints; e; e = e->hh.next) {
                struct endpoint *o = model_endpoint(old, e->id);

                if (!o)
                        continue;
                e->identity = o->identity;
                e->identity_local = o->identity_local;
                e->replaced = o->replaced;
                e->replaced_local = o->replaced_local;
                o->identity = o->replaced = 0;
        }
}

/* Networks before endpoints does not matter to the maps, only that all is applied. */
static int load_all(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries list = {};
        struct model old = d->model;
        int64_t revision;
        int r;

        r = store_list(d->store, STORE_PREFIX, &list, &revision);
        if (r < 0)
                return r;
        d->model = (struct model){};
        for (size_t i = 0; i < list.n; i++)
                mirror_apply(d, &list.entry[i]);
        /* What lives here stays known even when its lease ran out while no slimd was there. */
        for (struct endpoint *e = old.endpoints; e; e = e->hh.next) {
                struct endpoint copy, *kept;

                if ((!local_find(d, e->id) && !(e->is_host && mirror_is_local(d, e))) ||
                    model_endpoint(&d->model, e->id))
                        continue;
                copy = endpoint_copy(e);
                if (model_put_endpoint(&d->model, &copy, &kept) == 0)
                        mirror_touch(d, kept);
        }
        take_identities(&d->model, &old);
        for (struct network *n = old.networks; n; n = n->hh.next)
                if (!model_network(&d->model, n->name))
                        host_network_down(d, n);
        policy_drop_missing(d, &old);
        (void)mirror_settle(d); /* it has been said, and is tried again */
        mirror_prune(d);
        for (struct endpoint *e = old.endpoints; e; e = e->hh.next)
                policy_forget(d, e);
        model_clear(&old);
        d->loaded = true;
        (void)mirror_settle(d);
        d->after = revision;
        return host_nat_update(d);
}

static int on_store(sd_event_source *s, int fd, uint32_t events, void *userdata);

static int watch_store(struct slimd *d)
{
        return sd_event_add_io(d->event, &d->store_source, store_watch_fd(d->store), EPOLLIN,
                               on_store, d);
}

static void close_store(struct slimd *d)
{
        d->store_source = sd_event_source_disable_unref(d->store_source);
        store_free(d->store);
        d->store = NULL;
}

/*
 * The store was removed or replaced. It is opened again once it is there, and not made: an empty
 * one would say that nobody else exists. What it says then is the truth, whatever it is.
 */
static int reopen_store(struct slimd *d)
{
        int r;

        close_store(d);
        r = store_open_existing(d->opt.store, &d->store);
        if (r < 0)
                return r == -ENOENT ? -EIDRM : r;
        r = watch_store(d);
        if (r >= 0)
                r = key_make(d);
        if (r >= 0)
                r = load_all(d);
        if (r < 0)
                close_store(d);
        return r;
}

/* Reads what has changed since the last time. */
static int read_changes(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries changes = {};
        int r;

        r = store_watch(d->store, STORE_PREFIX, &d->after, &changes);
        if (r == -ESTALE)
                r = load_all(d);
        if (r == -EIDRM)
                r = reopen_store(d);
        if (r < 0) {
                cluster_store_failed(d, r);
                return r;
        }
        store_answered(d);
        for (size_t i = 0; i < changes.n; i++)
                mirror_apply(d, &changes.entry[i]);
        (void)mirror_settle(d); /* it has been said, and is tried again */
        return 0;
}

/* A new network gets this host's endpoint at once, which is another change. */
int cluster_sync(struct slimd *d)
{
        int r = read_changes(d);

        for (int tries = 0; r == 0 && tries < 16 && stack_publish(d) > 0; tries++)
                r = read_changes(d);
        (void)mirror_settle(d); /* of networks that are gone, this host's endpoints went */
        if (r == 0)
                key_step(d);
        return r;
}

static int on_store(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
        (void)cluster_sync(userdata); /* it has been said; the timer tries again */
        return 0;
}

static int put_host(struct slimd *d)
{
        struct host h = {};
        _cleanup_free_ char *value = NULL;
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        struct store_op op = {.key = key, .lease = d->lease};

        memcpy(h.addr, d->underlay_addr, sizeof(h.addr));
        value = host_to_json(&h);
        if (!value)
                return -ENOMEM;
        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        op.value = value;
        return store_transaction(d->store, NULL, 0, &op, 1, NULL);
}

/* A new lease and all that hangs on it. */
static int take_lease(struct slimd *d)
{
        int r;

        r = store_lease_grant(d->store, LEASE_TTL_S, &d->lease);
        if (r < 0)
                return r;
        r = put_host(d);
        if (r < 0)
                return r;
        r = stack_republish(d);
        return r < 0 ? r : local_republish_all(d);
}

/* Endpoints that ended while the store did not answer, or before they were brought up. */
static void withdraw_ended(struct slimd *d)
{
        struct endpoint *e = d->model.endpoints;

        while (e) {
                _cleanup_(endpoint_clear) struct endpoint ended = endpoint_copy(e);

                if (!mirror_is_local(d, e) || e->is_host || local_find(d, e->id)) {
                        e = e->hh.next;
                        continue;
                }
                if (registry_withdraw(d, &ended) < 0)
                        return;         /* the timer tries again */
                e = d->model.endpoints; /* they have changed */
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct slimd *d = userdata;
        uint64_t now, next = LEASE_KEEP_S;
        int r;

        /* First, so that a store that went away and came back is open. */
        r = cluster_sync(d);
        if (r == 0) {
                r = d->lease ? store_lease_keep_alive(d->store, d->lease) : -ENOENT;
                if (r == -ENOENT) {
                        log_warning("this host's lease has run out, publishing it again");
                        r = take_lease(d);
                }
                if (r < 0)
                        cluster_store_failed(d, r);
        }
        if (r == 0)
                withdraw_ended(d);
        if (r < 0)
                next = RETRY_S;
        sd_event_now(d->event, CLOCK_BOOTTIME, &now);
        sd_event_source_set_time(s, now + next * 1000000U);
        sd_event_source_set_enabled(s, SD_EVENT_ON);
        return 0;
}

/* Whose this host's name is in the store. -ENOENT: nobody's. */
static int get_host(struct slimd *d, struct host *ret)
{
        _cleanup_free_ char *value = NULL;
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        int r;

        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        r = store_get(d->store, key, &value, NULL);
        if (r < 0)
                return r;
        return host_from_json(d->opt.host_name, value, ret) < 0 ? -ENOENT : 0;
}

/* Under an address of this host: one of a family may have come or gone. */
static bool is_ours(const struct slimd *d, const struct host *h)
{
        return inaddr_is_one_of(&h->addr[SLIM_V4], d->underlay_addr) ||
               inaddr_is_one_of(&h->addr[SLIM_V6], d->underlay_addr);
}

static int check_host_name(struct slimd *d)
{
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES];
        struct host h;
        int r;

        r = get_host(d, &h);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (is_ours(d, &h))
                return 0;
        addrs_format(h.addr, buf, addr);
        log_error("the host name \"%s\" is taken by the host at %s: give another with --host-name "
                  "(or wait %u s, if that was this host under another address)",
                  d->opt.host_name, addr[SLIM_V4] ?: addr[SLIM_V6], LEASE_TTL_S);
        return -EEXIST;
}

int cluster_open(struct slimd *d, bool make)
{
        int r;

        r = make ? store_open(d->opt.store, &d->store)
                 : store_open_existing(d->opt.store, &d->store);
        if (r < 0)
                return log_error_errno(
                    r,
                    r == -ESTALE    ? "the store %s was written by a newer version of Slim: run "
                                      "that one; nothing was changed"
                    : r == -EBADMSG ? "%s is not a store of Slim; nothing was changed"
                    : r == -EPROTONOSUPPORT ? "--store \"%s\": only sqlite:PATH is known"
                                            : "cannot open the store %s: %m",
                    d->opt.store);
        if (!make)
                return 0;
        r = check_host_name(d);
        if (r < 0 && r != -EEXIST)
                return log_error_errno(r, "cannot read the store %s: %m", d->opt.store);
        return r;
}

int cluster_start(struct slimd *d)
{
        int r;

        r = key_make(d);
        if (r == 0)
                r = load_all(d);
        if (r == 0)
                r = take_lease(d);
        if (r == 0)
                r = cluster_sync(d);
        if (r < 0)
                return log_error_errno(r, "cannot read the store %s: %m", d->opt.store);
        r = watch_store(d);
        if (r >= 0)
                r = sd_event_add_time_relative(d->event, &d->store_timer, CLOCK_BOOTTIME,
                                               LEASE_KEEP_S * 1000000ULL, 0, on_timer, d);
        if (r < 0)
                return log_error_errno(r, "cannot watch the store: %m");
        withdraw_ended(d);
        return 0;
}

void cluster_stop(struct slimd *d)
{
        model_clear(&d->model);
        close_store(d);
        d->store_timer = sd_event_source_disable_unref(d->store_timer);
        free(d->store_error);
        d->store_error = NULL;
}

/* This host's own endpoints; its containers' are gone already. */
static int leave_networks(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries list = {};
        int r = store_list(d->store, STORE_ENDPOINTS, &list, NULL);

        for (size_t i = 0; r == 0 && i < list.n; i++) {
                _cleanup_(endpoint_clear) struct endpoint e = {};
                uint64_t id;

                if (parse_uint(list.entry[i].key + strlen(STORE_ENDPOINTS), 1, UINT32_MAX, &id) <
                        0 ||
                    endpoint_from_json((uint32_t)id, list.entry[i].value, &e) < 0)
                        continue; /* whose it is cannot be told */
                if (e.is_host && mirror_is_local(d, &e))
                        r = registry_delete(d, &e);
        }
        return r;
}

int cluster_leave(struct slimd *d)
{
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        struct store_op op = {.key = key};
        struct host h;
        int r;

        r = get_host(d, &h);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (!is_ours(d, &h))
                return 0; /* another host's by now */
        r = leave_networks(d);
        if (r < 0)
                return r;
        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        return store_transaction(d->store, NULL, 0, &op, 1, NULL);
}
