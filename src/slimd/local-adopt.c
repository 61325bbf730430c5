/* SPDX-License-Identifier: Apache-2.0 */
/* A new slimd takes over the containers that an earlier one left. */
#include "local-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "host.h"
#include "limit.h"
#include "mirror.h"
#include "registry.h"
#include "supervise.h"

int local_load(struct slimd *d)
{
        _cleanup_free_ char *dir_path = NULL;
        struct dirent *entry;
        DIR *dir;

        if (asprintf(&dir_path, "%s/endpoints", d->opt.run_dir) < 0) {
                dir_path = NULL;
                return log_error_errno(-ENOMEM, "cannot find the old containers: %m");
        }
        dir = opendir(dir_path);
        if (!dir && errno == ENOENT)
                return 0;
        if (!dir)
                return log_error_errno(-errno, "cannot open %s: %m", dir_path);
        while ((entry = readdir(dir))) {
                _cleanup_free_ char *text = NULL;
                struct endpoint e, *kept;
                struct local *l;
                uint64_t id;
                int r;

                if (parse_uint(entry->d_name, 1, UINT32_MAX, &id) < 0)
                        continue;
                if (read_file_at(dirfd(dir), entry->d_name, 65536, &text, NULL) < 0 ||
                    endpoint_from_json((uint32_t)id, text, &e) < 0) {
                        log_warning("%s/%s is damaged, ignoring", dir_path, entry->d_name);
                        continue;
                }
                /* The addresses of the underlay may have changed meanwhile. */
                memcpy(e.host_addr, d->underlay_addr, sizeof(e.host_addr));
                l = local_new(d, &e);
                if (l && local_state_attachment(l, text) < 0)
                        log_warning("%s/%s is damaged, clearing it away", dir_path, entry->d_name);
                r = l ? 0 : -ENOMEM;
                if (r == 0 && !l->ports_held)
                        r = reservation_new(&e, &l->reserved);
                if (r < 0)
                        endpoint_clear(&e);
                else
                        r = model_put_endpoint(&d->model, &e, &kept);
                if (r < 0) {
                        closedir(dir);
                        return log_error_errno(-ENOMEM, "cannot find the old containers: %m");
                }
                l->published = true; /* as that slimd left it */
        }
        closedir(dir);
        return 0;
}

/* Ports that nobody has held meanwhile may be another's by now. Then the container goes on without
 * all of its published ports, rather than with a stranger's. */
static void give_up_ports(struct local *l)
{
        l->published = false;
        publish_end(l->d, &l->e);
        reservation_done(&l->reserved);
        l->e.publish = (struct publications){};
        (void)local_state_save(l);
        (void)registry_republish(l->d, &l->e);
}

/* The reservations are its broker's, if that still runs. */
static int adopt_ports(struct local *l)
{
        _cleanup_free_ char *error = NULL;
        char path[PATH_MAX];
        int r;

        if (!l->reserved.n) /* it has none, or others hold them */
                return publish_begin(l->d, &l->e);
        local_cgroup_path(l, "/" CGROUP_BROKER, path);
        r = supervisor_take(path, &l->reserved);
        if (r == -ENOENT) {
                r = reservation_bind(&l->e, &l->reserved, &error);
                if (r < 0) {
                        log_error("endpoint %s: nobody held its published ports while no slimd was "
                                  "there, and now: %s; none of them is published any more, restart "
                                  "the container",
                                  l->e.name, error ?: strerror(-r));
                        give_up_ports(l);
                        return 0;
                }
        }
        return r < 0 ? r : publish_begin(l->d, &l->e);
}

static int adopt(struct local *l)
{
        int r;

        r = local_find_bond(l);
        if (r < 0)
                return r;
        r = local_attach_device(l);
        if (r < 0)
                return r;
        r = mirror_endpoint(l->d, &l->e);
        if (r == 0)
                r = local_make_usage(l);
        if (r == 0)
                r = limit_set(l->d, l->id, &l->e.limits);
        if (r < 0)
                return r;
        r = adopt_ports(l);
        if (r < 0)
                return r;
        r = local_supervise(l, -1);
        if (r == -ENOENT) {
                log_error("endpoint %s: its broker died while no slimd was there, so its programs "
                          "get no new TCP sockets; restart the container",
                          l->e.name);
                return 0;
        }
        return r;
}

void local_adopt_all(struct slimd *d)
{
        struct local *l, *next;

        HASH_ITER(hh, d->locals, l, next)
        {
                int r = adopt(l);

                if (r == -ESRCH) {
                        local_tear_down(l);
                } else if (r < 0) {
                        log_error_errno(r, "endpoint %s: cannot take it over: %m, ending it",
                                        l->e.name);
                        local_tear_down(l);
                }
        }
}

int local_republish_all(struct slimd *d)
{
        for (struct local *l = d->locals; l; l = l->hh.next) {
                int r = registry_republish(d, &l->e);

                if (r == -EEXIST)
                        log_error("endpoint %s (%u): its name or address was given to another "
                                  "while this host was away; others do not reach it",
                                  l->e.name, l->id);
                else if (r < 0)
                        return r;
        }
        return 0;
}
