/* SPDX-License-Identifier: Apache-2.0 */
#include "datapath.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "slim.skel.h"

/* Of our tc filters, so that they are told from others' and replaced in place. */
#define TC_HANDLE   0x511e
#define TC_PRIORITY 0x511e
/* Of those that come before them. */
#define TC_PRIORITY_FIRST 0x511d

struct datapath {
        struct slim_bpf *skel;
};

static struct bpf_map *map_of(const struct datapath *dp, enum datapath_map map)
{
        switch (map) {
        case DATAPATH_ENDPOINTS:
                return dp->skel->maps.endpoints;
        case DATAPATH_IDENTITIES:
                return dp->skel->maps.identities;
        case DATAPATH_PREFIXES:
                return dp->skel->maps.prefixes;
        case DATAPATH_HOSTS:
                return dp->skel->maps.hosts;
        case DATAPATH_DEVICES:
                return dp->skel->maps.devices;
        case DATAPATH_HOST_ENDPOINTS:
                return dp->skel->maps.host_endpoints;
        case DATAPATH_KEYS:
                return dp->skel->maps.keys;
        case DATAPATH_SOCKETS:
                return dp->skel->maps.sockets;
        case DATAPATH_PORTS:
                return dp->skel->maps.ports;
        case DATAPATH_LISTENERS:
                return dp->skel->maps.listeners;
        case DATAPATH_USAGE:
                return dp->skel->maps.usage;
        case DATAPATH_SYNS:
                return dp->skel->maps.syns;
        case DATAPATH_PUBLISHED:
                return dp->skel->maps.published;
        case DATAPATH_POLICY_RULES:
                return dp->skel->maps.policy_rules;
        case DATAPATH_POLICY_CIDRS:
                return dp->skel->maps.policy_cidrs;
        case DATAPATH_POLICY_SUBJECTS:
                return dp->skel->maps.policy_subjects;
        case DATAPATH_EVENTS:
                return dp->skel->maps.events;
        case DATAPATH_WATCH:
                return dp->skel->maps.watch;
        case DATAPATH_LIMITS:
                return dp->skel->maps.limits;
        case DATAPATH_LIMIT_CLASSES:
                return dp->skel->maps.limit_classes;
        case DATAPATH_MAP_MAX:
                break;
        }
        return NULL;
}

static const char *const map_names[] = {
    [DATAPATH_ENDPOINTS] = "endpoints",
    [DATAPATH_IDENTITIES] = "identities",
    [DATAPATH_PREFIXES] = "prefixes",
    [DATAPATH_HOSTS] = "hosts",
    [DATAPATH_DEVICES] = "devices",
    [DATAPATH_HOST_ENDPOINTS] = "host_endpoints",
    [DATAPATH_KEYS] = "keys",
    [DATAPATH_SOCKETS] = "sockets",
    [DATAPATH_PORTS] = "ports",
    [DATAPATH_LISTENERS] = "listeners",
    [DATAPATH_USAGE] = "usage",
    [DATAPATH_SYNS] = "syns",
    [DATAPATH_PUBLISHED] = "published",
    [DATAPATH_POLICY_RULES] = "policy_rules",
    [DATAPATH_POLICY_CIDRS] = "policy_cidrs",
    [DATAPATH_POLICY_SUBJECTS] = "policy_subjects",
    [DATAPATH_EVENTS] = "events",
    [DATAPATH_WATCH] = "watch",
    [DATAPATH_LIMITS] = "limits",
    [DATAPATH_LIMIT_CLASSES] = "limit_classes",
};
_Static_assert(ARRAY_SIZE(map_names) == DATAPATH_MAP_MAX, "a map has no name");

const char *datapath_map_name(enum datapath_map map)
{
        return map_names[map];
}

int datapath_map_fd(const struct datapath *dp, enum datapath_map map)
{
        return bpf_map__fd(map_of(dp, map));
}

/* libbpf says several lines at once, the verifier's whole log among them. */
static int libbpf_log(enum libbpf_print_level level, const char *format, va_list ap)
{
        _cleanup_free_ char *text = NULL;
        char *save = NULL;

        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return 0;
        }
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                log_debug("%s", line);
        return 0;
}

/* Is this what a link is attached to? A cgroup's id, as a namespace's, is its inode number. */
static bool link_is_at(int link_fd, int target_fd)
{
        struct bpf_link_info info = {};
        uint32_t len = sizeof(info);
        struct stat st;

        if (bpf_obj_get_info_by_fd(link_fd, &info, &len) < 0 || fstat(target_fd, &st) < 0)
                return false;
        switch (info.type) {
        case BPF_LINK_TYPE_CGROUP:
                return info.cgroup.cgroup_id == st.st_ino;
        case BPF_LINK_TYPE_NETNS:
                return info.netns.netns_ino == st.st_ino;
        default:
                return false;
        }
}

/* A pinned link under this name gets the program; where there is none, one is made and pinned. */
static int attach_link(const char *bpf_dir, const struct bpf_program *prog, int target_fd)
{
        char path[4096];
        _cleanup_close_ int fd = -1;
        int prog_fd = bpf_program__fd(prog);

        snprintf(path, sizeof(path), "%s/links/%s", bpf_dir, bpf_program__name(prog));
        fd = bpf_obj_get(path);
        if (fd >= 0) {
                if (link_is_at(fd, target_fd) && bpf_link_update(fd, prog_fd, NULL) == 0)
                        return 0;
                /* What it was attached to is gone (ENOLINK), or is another one now. */
                log_debug("link %s is attached elsewhere, making a new one", path);
                if (unlink(path) < 0)
                        return -errno;
                fd = safe_close(fd);
        } else if (errno != ENOENT) {
                return -errno;
        }
        fd = bpf_link_create(prog_fd, target_fd, bpf_program__expected_attach_type(prog), NULL);
        if (fd < 0)
                return -errno;
        return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

static int attach_all(const struct datapath *dp, const struct datapath_options *o)
{
        struct {
                const struct bpf_program *prog;
                const char *target;
        } links[] = {
            /* What a connection needs, of the host's own processes too. */
            {dp->skel->progs.slim_connect4, o->host_cgroup},
            {dp->skel->progs.slim_connect6, o->host_cgroup},
            {dp->skel->progs.slim_getsockname4, o->host_cgroup},
            {dp->skel->progs.slim_getsockname6, o->host_cgroup},
            {dp->skel->progs.slim_getpeername4, o->host_cgroup},
            {dp->skel->progs.slim_getpeername6, o->host_cgroup},
            {dp->skel->progs.slim_sockops, o->host_cgroup},
            /* What only containers' sockets need. */
            {dp->skel->progs.slim_bind4, o->cgroup},
            {dp->skel->progs.slim_bind6, o->cgroup},
            {dp->skel->progs.slim_release, o->cgroup},
            {dp->skel->progs.slim_setsockopt, o->cgroup},
            {dp->skel->progs.slim_getsockopt, o->cgroup},
            {dp->skel->progs.slim_steer, "/proc/self/ns/net"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
                _cleanup_close_ int fd = open(links[i].target, O_RDONLY | O_CLOEXEC);
                int r;

                if (fd < 0)
                        return log_error_errno(-errno, "cannot open %s: %m", links[i].target);
                r = attach_link(o->bpf_dir, links[i].prog, fd);
                if (r < 0)
                        return log_error_errno(r, "cannot attach %s to %s: %m",
                                               bpf_program__name(links[i].prog), links[i].target);
        }
        return 0;
}

static int make_dirs(const char *bpf_dir)
{
        static const char *const dirs[] = {"", "/maps", "/links"};
        char path[4096];

        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
                snprintf(path, sizeof(path), "%s%s", bpf_dir, dirs[i]);
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return log_error_errno(-errno, "cannot make %s: %m", path);
        }
        return 0;
}

static int pin_maps(const struct datapath *dp, const char *bpf_dir)
{
        struct bpf_map *map;

        bpf_object__for_each_map(map, dp->skel->obj)
        {
                char path[4096];

                if (bpf_map__is_internal(map)) /* read-only data goes with its program */
                        continue;
                snprintf(path, sizeof(path), "%s/maps/%s", bpf_dir, bpf_map__name(map));
                if (bpf_map__set_pin_path(map, path) < 0)
                        return log_error_errno(-errno, "cannot pin %s: %m", path);
        }
        return 0;
}

/* What bpf_get_netns_cookie() says of this host's own sockets. */
static int own_netns_cookie(__u64 *ret)
{
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        socklen_t len = sizeof(*ret);

        if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) < 0)
                return -errno;
        return 0;
}

/* How many jiffies the kernel has in a second: what its coarse clocks go by. */
static uint32_t kernel_hz(void)
{
        struct timespec tick;

        if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) < 0 || tick.tv_sec || tick.tv_nsec < 1)
                return 0;
        return (uint32_t)((1000000000L + tick.tv_nsec / 2) / tick.tv_nsec);
}

int datapath_open(const struct datapath_options *o, struct datapath **ret)
{
        _cleanup_(datapath_freep) struct datapath *dp = NULL;
        struct slim_config *config;
        int r;

        libbpf_set_print(libbpf_log);
        dp = new0(struct datapath, 1);
        if (!dp)
                return log_error_errno(-ENOMEM, "cannot load the data path: %m");
        dp->skel = slim_bpf__open();
        if (!dp->skel)
                return log_error_errno(-errno, "cannot open the data path's programs: %m");
        /* The compiler sees a const object; before loading, it is what its map starts with. */
        config = (struct slim_config *)(uintptr_t)&dp->skel->rodata->config;
        *config = (struct slim_config){
            .port_base = SLIM_PORT_BASE,
            .port_count = SLIM_PORT_COUNT,
            .vxlan_ifindex = o->vxlan_ifindex,
            .underlay_ifindex = o->underlay_ifindex,
            .hz = kernel_hz(),
            .max_ports = o->max_ports,
            .max_listeners = o->max_listeners,
        };
        r = own_netns_cookie(&config->netns_cookie);
        if (r < 0)
                return log_error_errno(r, "cannot tell this network namespace's cookie: %m");
        r = make_dirs(o->bpf_dir);
        if (r < 0)
                return r;
        r = pin_maps(dp, o->bpf_dir);
        if (r < 0)
                return r;
        r = slim_bpf__load(dp->skel);
        if (r < 0)
                return log_error_errno(
                    r,
                    "the kernel refuses the data path (\"slimctl doctor\" says what "
                    "is missing; maps of another version in %s do this too): %m",
                    o->bpf_dir);
        r = attach_all(dp, o);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(dp);
        return 0;
}

void datapath_free(struct datapath *dp)
{
        slim_bpf__destroy(dp->skel);
        free(dp);
}

static int remove_pins(const char *bpf_dir, const char *const *names, size_t n, const char *below)
{
        char path[4096];
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                snprintf(path, sizeof(path), "%s/%s/%s", bpf_dir, below, names[i]);
                if (unlink(path) < 0 && errno != ENOENT)
                        r = -errno;
        }
        snprintf(path, sizeof(path), "%s/%s", bpf_dir, below);
        if (rmdir(path) < 0 && errno != ENOENT)
                r = -errno;
        return r;
}

int datapath_each_prefix(const char *bpf_dir,
                         void (*visit)(const struct inaddr_prefix *prefix, void *userdata),
                         void *userdata)
{
        struct slim_prefix_key key, next;
        const void *at = NULL;
        _cleanup_close_ int fd = -1;
        char path[4096];

        snprintf(path, sizeof(path), "%s/maps/prefixes", bpf_dir);
        fd = bpf_obj_get(path);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        while (bpf_map_get_next_key(fd, at, &next) == 0) {
                struct inaddr_prefix prefix = {.addr = next.addr, .bits = (uint8_t)next.prefixlen};

                visit(&prefix, userdata);
                key = next;
                at = &key;
        }
        return errno == ENOENT ? 0 : -errno;
}

int datapath_remove(const char *bpf_dir)
{
        struct slim_bpf *skel;
        const char *names[64];
        struct bpf_program *prog;
        struct bpf_map *map;
        size_t n = 0;
        int r, k;

        libbpf_set_print(libbpf_log);
        skel = slim_bpf__open();
        if (!skel)
                return -errno;
        bpf_object__for_each_program(prog, skel->obj)
        {
                if (n < ARRAY_SIZE(names))
                        names[n++] = bpf_program__name(prog);
        }
        r = remove_pins(bpf_dir, names, n, "links");
        n = 0;
        bpf_object__for_each_map(map, skel->obj)
        {
                if (n < ARRAY_SIZE(names) && !bpf_map__is_internal(map))
                        names[n++] = bpf_map__name(map);
        }
        k = remove_pins(bpf_dir, names, n, "maps");
        if (r == 0)
                r = k;
        slim_bpf__destroy(skel);
        if (rmdir(bpf_dir) < 0 && errno != ENOENT && r == 0)
                r = -errno;
        return r;
}

/* Of our tc filters, one program at one point of a device. The first of two at the same point says
 * that a packet is to be seen by the next (TC_ACT_UNSPEC). */
struct tc_program {
        const struct bpf_program *prog;
        enum bpf_tc_attach_point point;
        uint32_t priority;
};

#define TC_PROGRAMS_MAX 2

static size_t tc_programs(const struct datapath *dp, enum datapath_device kind,
                          struct tc_program ret[TC_PROGRAMS_MAX])
{
        switch (kind) {
        case DATAPATH_UNDERLAY:
                ret[0] =
                    (struct tc_program){dp->skel->progs.slim_ingress, BPF_TC_INGRESS, TC_PRIORITY};
                return 1;
        case DATAPATH_VXLAN:
                ret[0] =
                    (struct tc_program){dp->skel->progs.slim_to_vxlan, BPF_TC_EGRESS, TC_PRIORITY};
                ret[1] = (struct tc_program){dp->skel->progs.slim_from_vxlan, BPF_TC_INGRESS,
                                             TC_PRIORITY};
                return 2;
        case DATAPATH_CONTAINER:
                ret[0] = (struct tc_program){dp->skel->progs.slim_to_container, BPF_TC_EGRESS,
                                             TC_PRIORITY};
                ret[1] = (struct tc_program){dp->skel->progs.slim_from_container, BPF_TC_INGRESS,
                                             TC_PRIORITY};
                return 2;
        case DATAPATH_LIMITED:
                ret[0] = (struct tc_program){dp->skel->progs.slim_limit_in, BPF_TC_INGRESS,
                                             TC_PRIORITY_FIRST};
                ret[1] = (struct tc_program){dp->skel->progs.slim_limit_out, BPF_TC_EGRESS,
                                             TC_PRIORITY_FIRST};
                return 2;
        case DATAPATH_LIMITER:
                ret[0] =
                    (struct tc_program){dp->skel->progs.slim_limited, BPF_TC_INGRESS, TC_PRIORITY};
                return 1;
        }
        return 0;
}

static int attach_tc(const struct tc_program *p, uint32_t ifindex)
{
        DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = p->point);
        DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = p->priority,
                            .prog_fd = bpf_program__fd(p->prog), .flags = BPF_TC_F_REPLACE);
        int r = bpf_tc_hook_create(&hook);

        if (r < 0 && r != -EEXIST) /* others may use the same clsact */
                return r;
        return bpf_tc_attach(&hook, &opts);
}

int datapath_attach(struct datapath *dp, uint32_t ifindex, enum datapath_device kind)
{
        struct tc_program programs[TC_PROGRAMS_MAX];
        size_t n = tc_programs(dp, kind, programs);
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = attach_tc(&programs[i], ifindex);
        return r;
}

static int detach_tc(uint32_t ifindex, enum bpf_tc_attach_point point, uint32_t priority)
{
        DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
        DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = priority);
        int r;

        libbpf_set_print(libbpf_log); /* it has much to say of a filter that is not there */
        r = bpf_tc_detach(&hook, &opts);
        return r == -ENOENT || r == -EINVAL ? 0 : r; /* EINVAL: no clsact at all */
}

int datapath_detach_limited(uint32_t ifindex)
{
        int r = detach_tc(ifindex, BPF_TC_INGRESS, TC_PRIORITY_FIRST);
        int k = detach_tc(ifindex, BPF_TC_EGRESS, TC_PRIORITY_FIRST);

        return r < 0 ? r : k;
}

int datapath_detach(uint32_t ifindex)
{
        int r = datapath_detach_limited(ifindex);
        int k = detach_tc(ifindex, BPF_TC_INGRESS, TC_PRIORITY);

        return r < 0 ? r : k;
}

int datapath_map_count(const struct datapath *dp, enum datapath_map map, uint64_t *ret)
{
        int fd = datapath_map_fd(dp, map);
        _Alignas(8) char key[64], next[64];
        void *at = NULL;
        uint64_t n = 0;

        while (bpf_map_get_next_key(fd, at, next) == 0) {
                memcpy(key, next, sizeof(key));
                at = key;
                n++;
        }
        if (errno != ENOENT)
                return -errno;
        *ret = n;
        return 0;
}

int datapath_map_prune(const struct datapath *dp, enum datapath_map map, size_t key_size,
                       bool (*keep)(const void *key, void *userdata), void *userdata)
{
        int fd = datapath_map_fd(dp, map);
        _Alignas(8) char key[64], next[64];
        void *at = NULL;
        int r;

        r = bpf_map_get_next_key(fd, at, next);
        while (r == 0) {
                bool kept = keep(next, userdata);

                memcpy(key, next, key_size);
                at = key;
                /* The next key is asked for while this one is still there. */
                r = bpf_map_get_next_key(fd, at, next);
                if (!kept && bpf_map_delete_elem(fd, key) < 0 && errno != ENOENT)
                        return -errno;
        }
        return r == -ENOENT || errno == ENOENT ? 0 : -errno;
}

int datapath_policy_check(const struct datapath *dp, const struct slim_policy_check *check,
                          enum slim_policy_verdict *ret)
{
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = check,
                            .data_size_in = sizeof(*check));
        int r = bpf_prog_test_run_opts(bpf_program__fd(dp->skel->progs.slim_policy_check), &opts);

        if (r < 0)
                return r;
        if (opts.retval > SLIM_POLICY_REJECT)
                return -EBADMSG;
        *ret = (enum slim_policy_verdict)opts.retval;
        return 0;
}

/* The values of a counter, one for each processor; the caller frees *ret. */
static int read_counter(const struct datapath *dp, enum slim_reason reason, uint64_t **ret,
                        int *ret_cpus)
{
        int cpus = libbpf_num_possible_cpus(), fd = bpf_map__fd(dp->skel->maps.counters);
        _cleanup_free_ uint64_t *values = NULL;
        uint32_t key = reason;

        if (cpus < 0)
                return cpus;
        values = new0(uint64_t, (size_t)cpus);
        if (!values)
                return -ENOMEM;
        if (bpf_map_lookup_elem(fd, &key, values) < 0)
                return -errno;
        *ret = TAKE_PTR(values);
        *ret_cpus = cpus;
        return 0;
}

int datapath_counter(const struct datapath *dp, enum slim_reason reason, uint64_t *ret)
{
        _cleanup_free_ uint64_t *values = NULL;
        int cpus = 0, r = read_counter(dp, reason, &values, &cpus);
        uint64_t n = 0;

        if (r < 0)
                return r;
        for (int c = 0; c < cpus; c++)
                n += values[c];
        *ret = n;
        return 0;
}

int datapath_counters(const struct datapath *dp, uint64_t ret[SLIM_REASON_MAX])
{
        for (unsigned int i = 0; i < SLIM_REASON_MAX; i++) {
                int r = datapath_counter(dp, (enum slim_reason)i, &ret[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

int datapath_count(const struct datapath *dp, enum slim_reason reason)
{
        _cleanup_free_ uint64_t *values = NULL;
        uint32_t key = reason;
        int cpus = 0, r = read_counter(dp, reason, &values, &cpus);

        if (r < 0 || !values)
                return r;
        values[0]++;
        if (bpf_map_update_elem(bpf_map__fd(dp->skel->maps.counters), &key, values, BPF_ANY) < 0)
                return -errno;
        return 0;
}

uint32_t datapath_map_capacity(const struct datapath *dp, enum datapath_map map)
{
        return bpf_map__max_entries(map_of(dp, map));
}
