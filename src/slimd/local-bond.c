/* SPDX-License-Identifier: Apache-2.0 */
/* What a container is bound to: its cgroup, or an attachment of a namespace (local.h). */
#include "local-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "host.h"

/* --- its cgroup ------------------------------------------------------------------------------- */

void local_cgroup_path(const struct local *l, const char *below, char ret[PATH_MAX])
{
        snprintf(ret, PATH_MAX, "%s/%u%s", l->d->opt.cgroup, l->id, below);
}

/* One file of the cgroup of its processes. */
static int read_cgroup(const struct local *l, const char *name, size_t max, char **ret)
{
        char path[PATH_MAX + 32], dir[PATH_MAX];

        local_cgroup_path(l, "/" CGROUP_PROGRAM, dir);
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        return read_file_at(AT_FDCWD, path, max, ret, NULL);
}

/* Is a process left in it? */
static bool is_populated(const struct local *l)
{
        _cleanup_free_ char *events = NULL;

        return read_cgroup(l, "cgroup.events", 4096, &events) == 0 && strstr(events, "populated 1");
}

static int count_pids(const struct local *l)
{
        _cleanup_free_ char *pids = NULL;
        int n = 0;

        if (read_cgroup(l, "cgroup.procs", 4U << 20, &pids) < 0)
                return 0;
        for (const char *p = pids; *p; p++)
                n += *p == '\n';
        return n;
}

static pid_t first_pid(const struct local *l)
{
        _cleanup_free_ char *pids = NULL;

        if (read_cgroup(l, "cgroup.procs", 4U << 20, &pids) < 0)
                return 0;
        return (pid_t)strtol(pids, NULL, 10);
}

static int make_cgroup(const struct local *l, const char *below)
{
        char path[PATH_MAX];

        local_cgroup_path(l, below, path);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return -errno;
        /*
         * The kernel accounts pressure (PSI) in each cgroup above a task whenever that sleeps or
         * wakes (psi_task_change()), which shows in the time of a round trip
         * (docs/performance.md). It stays on for the container as a whole.
         */
        if (*below)
                host_tune_cgroup(path, "cgroup.pressure", "0");
        return 0;
}

static int move_pid(const struct local *l, pid_t pid)
{
        char path[PATH_MAX + 32], dir[PATH_MAX], text[16];

        local_cgroup_path(l, "/" CGROUP_PROGRAM, dir);
        snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
        snprintf(text, sizeof(text), "%d", pid);
        return write_file_at(AT_FDCWD, path, text);
}

static int on_end(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
        struct local *l = userdata;

        if (!is_populated(l))
                local_tear_down(l);
        return 0;
}

/* From then on its end tears it down. */
static int watch_end(struct local *l)
{
        char path[PATH_MAX + 32], dir[PATH_MAX];

        local_cgroup_path(l, "/" CGROUP_PROGRAM, dir);
        snprintf(path, sizeof(path), "%s/cgroup.events", dir);
        return sd_event_add_inotify(l->d->event, &l->end_source, path, IN_MODIFY, on_end, l);
}

static int enter_cgroup(struct local *l, pid_t pid)
{
        int r = make_cgroup(l, "/" CGROUP_PROGRAM);

        if (r == 0)
                r = watch_end(l);
        return r < 0 ? r : move_pid(l, pid);
}

static int find_cgroup(struct local *l)
{
        char path[64];
        int r;

        if (!is_populated(l))
                return -ESRCH;
        r = watch_end(l);
        if (r < 0)
                return r;
        if (!is_populated(l)) /* it ended before the watch began */
                return -ESRCH;
        snprintf(path, sizeof(path), "/proc/%d/ns/net", first_pid(l));
        l->netns_fd = open(path, O_RDONLY | O_CLOEXEC);
        return l->netns_fd < 0 ? -errno : 0;
}

/* --- an attachment ---------------------------------------------------------------------------- */

/* Opens the namespace by its path. -ESTALE: that is another one by now. */
static int open_netns(struct local *l, const struct netlink_link *device)
{
        _cleanup_close_ int fd = open(l->netns, O_RDONLY | O_CLOEXEC);
        int32_t id;
        int r;

        if (fd < 0)
                return -errno;
        r = netlink_netns_id(l->d->nl, fd, &id);
        if (r < 0)
                return r;
        if (id < 0 || id != device->peer_netns)
                return -ESTALE;
        l->netns_fd = TAKE_FD(fd);
        return 0;
}

/*
 * The device says whether the namespace is there: both ends go with it. Where it is there and its
 * path leads elsewhere, something holds it, for instance a process that has not ended yet; then the
 * container keeps its network until somebody detaches it.
 */
static int find_attachment(struct local *l)
{
        struct netlink_link device;
        int r = netlink_link_get(l->d->nl, l->device, &device);

        if (r < 0)
                return r == -ENODEV ? -ESRCH : r;
        r = open_netns(l, &device);
        if (r < 0)
                log_warning_errno(r,
                                  "endpoint %s: its namespace is not at %s any more: %m; policies "
                                  "do not end its open connections, ignoring",
                                  l->e.name, l->netns);
        return 0;
}

/* --- either ----------------------------------------------------------------------------------- */

int local_set_bond(struct local *l, const struct local_attachment *a, const char *interface)
{
        snprintf(l->interface, sizeof(l->interface), "%s", interface);
        if (!a)
                return 0;
        l->attachment = strdup(a->id);
        l->netns = strdup(a->netns);
        return l->attachment && l->netns ? 0 : -ENOMEM;
}

/* An attachment has a cgroup only for the broker that holds its published ports. */
int local_bind(struct local *l, pid_t pid)
{
        bool broker = l->e.slim || l->reserved.n;
        int r = 0;

        if (!l->attachment || broker)
                r = make_cgroup(l, "");
        if (r == 0 && broker)
                r = make_cgroup(l, "/" CGROUP_BROKER);
        return r < 0 || l->attachment ? r : enter_cgroup(l, pid);
}

int local_find_bond(struct local *l)
{
        return l->attachment ? find_attachment(l) : find_cgroup(l);
}

bool local_has_ended(const struct local *l)
{
        return !l->attachment && !is_populated(l);
}

void local_describe(const struct local *l, json_t *endpoint)
{
        char path[PATH_MAX];

        local_cgroup_path(l, "", path);
        json_object_set_new(endpoint, "device", json_string(l->device));
        json_object_set_new(endpoint, "interface", json_string(l->interface));
        json_object_set_new(endpoint, "attachment",
                            l->attachment ? json_string(l->attachment) : json_null());
        json_object_set_new(endpoint, "netns", l->netns ? json_string(l->netns) : json_null());
        json_object_set_new(endpoint, "cgroup", l->attachment ? json_null() : json_string(path));
        json_object_set_new(endpoint, "pids",
                            l->attachment ? json_null() : json_integer(count_pids(l)));
        json_object_set_new(endpoint, "broker_pid", json_integer(local_broker_pid(l)));
}
