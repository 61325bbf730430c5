/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimd: one host's part of a Slim overlay. Start-up in order; then an event loop.
 *
 * Nothing that a connection needs lives in this process: programs and maps are pinned, brokers are
 * processes of their own. It may be killed at any moment and started again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/installed.h"
#include "../shared/mounts.h"
#include "../shared/probe.h"
#include "api.h"
#include "cluster.h"
#include "host.h"
#include "limit.h"
#include "local.h"
#include "metrics.h"
#include "monitor.h"
#include "policy.h"
#include "revoke.h"
#include "slimd.h"

#define STATE_DIR "/var/lib/slim" /* of the store that nobody named */

static void usage(FILE *to)
{
        fputs("Usage: slimd [OPTION…]\n"
              "Serves one host's part of a Slim container network, in the foreground.\n\n"
              "  --run-dir DIR      API socket and state (default: /run/slim)\n"
              "  --bpf-dir DIR      pinned programs and maps (default: slim, below where\n"
              "                     bpffs is mounted)\n"
              "  --cgroup DIR       cgroup2 directory of the containers (default: slim, below\n"
              "                     where cgroup2 is mounted)\n"
              "  --host-cgroup DIR  cgroup2 directory of all processes of this host, which\n"
              "                     reach containers too (default: where cgroup2 is mounted)\n"
              "  --store URL        cluster state (default: sqlite:/var/lib/slim/store.db)\n"
              "  --host-name NAME   this host's name in the cluster (default: the system's)\n"
              "  --underlay DEV     device that reaches the other hosts (default: that of the\n"
              "                     default route)\n"
              "  --broker PATH      the slim-broker to start\n"
              "  --metrics ADDR:PORT\n"
              "                     figures for Prometheus, for whoever reaches that address:\n"
              "                     127.0.0.1:9511 is for this host alone (default: none)\n"
              "  --max-sockets N    TCP sockets that a container may have open, but for accepted\n"
              "                     ones (default: 65536); for those that start from now on\n"
              "  --max-ports N      ports that a container may have bound (default: 32768)\n"
              "  --max-listeners N  sockets of a container that may listen (default: 8192)\n"
              "  --no-masquerade    containers reach outside networks by TCP of swapped sockets\n"
              "                     alone; then the kernel need not track this host's packets\n"
              "  --notrack          do not have the kernel track TCP between containers; a\n"
              "                     firewall that goes by states does not know it then\n"
              "                     (slimd(8))\n"
              "  --teardown         end this host's containers and remove all that slimd made\n"
              "  --verbose          say more\n"
              "  --help, --version\n",
              to);
}

struct defaults {
        char bpf_dir[PATH_MAX];
        char cgroup[PATH_MAX];
        char host_cgroup[PATH_MAX];
        char host_name[HOST_NAME_MAX + 1];
        char underlay[16];
        char broker[PATH_MAX];
};

/* Of --max-sockets. What a broker makes ahead (POOL_SIZE, QUEUES_MAX) is counted: it is to be no
 * more than about the half of it. */
#define SOCKETS_MIN 1024
#define SOCKETS_MAX (1 << 24)

static int parse_bound(const char *option, uint64_t min, uint64_t max, uint32_t *ret)
{
        uint64_t v;
        int r = parse_uint(optarg, min, max, &v);

        if (r < 0) {
                log_error("%s \"%s\" is not a number from %" PRIu64 " to %" PRIu64, option, optarg,
                          min, max);
                return r;
        }
        *ret = (uint32_t)v;
        return 0;
}

/* 0: go on. 1: done (help, version). 2 and a line: a usage error. */
static int parse(int argc, char **argv, struct slimd_options *o, bool *teardown)
{
        enum {
                OPT_VERSION = 256,
                OPT_TEARDOWN,
                OPT_NO_MASQUERADE,
                OPT_NOTRACK,
                OPT_SOCKETS,
                OPT_PORTS,
                OPT_LISTENERS
        };
        static const struct option options[] = {
            {"run-dir", required_argument, NULL, 'r'},
            {"bpf-dir", required_argument, NULL, 'b'},
            {"cgroup", required_argument, NULL, 'c'},
            {"host-cgroup", required_argument, NULL, 'C'},
            {"store", required_argument, NULL, 's'},
            {"host-name", required_argument, NULL, 'n'},
            {"underlay", required_argument, NULL, 'u'},
            {"broker", required_argument, NULL, 'B'},
            {"metrics", required_argument, NULL, 'm'},
            {"max-sockets", required_argument, NULL, OPT_SOCKETS},
            {"max-ports", required_argument, NULL, OPT_PORTS},
            {"max-listeners", required_argument, NULL, OPT_LISTENERS},
            {"no-masquerade", no_argument, NULL, OPT_NO_MASQUERADE},
            {"notrack", no_argument, NULL, OPT_NOTRACK},
            {"teardown", no_argument, NULL, OPT_TEARDOWN},
            {"verbose", no_argument, NULL, 'v'},
            {"help", no_argument, NULL, 'h'},
            {"version", no_argument, NULL, OPT_VERSION},
            {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "vh", options, NULL)) >= 0) {
                switch (c) {
                case 'r':
                        o->run_dir = optarg;
                        break;
                case 'b':
                        o->bpf_dir = optarg;
                        break;
                case 'c':
                        o->cgroup = optarg;
                        break;
                case 'C':
                        o->host_cgroup = optarg;
                        break;
                case 's':
                        o->store = optarg;
                        break;
                case 'n':
                        o->host_name = optarg;
                        break;
                case 'u':
                        o->underlay = optarg;
                        break;
                case 'B':
                        o->broker = optarg;
                        break;
                case 'm':
                        o->metrics = optarg;
                        break;
                case OPT_SOCKETS:
                        if (parse_bound("--max-sockets", SOCKETS_MIN, SOCKETS_MAX,
                                        &o->max_sockets) < 0)
                                return 2;
                        break;
                case OPT_PORTS:
                        if (parse_bound("--max-ports", 1, UINT16_MAX, &o->max_ports) < 0)
                                return 2;
                        break;
                case OPT_LISTENERS:
                        if (parse_bound("--max-listeners", 1, UINT16_MAX, &o->max_listeners) < 0)
                                return 2;
                        break;
                case OPT_NO_MASQUERADE:
                        o->no_masquerade = true;
                        break;
                case OPT_NOTRACK:
                        o->notrack = true;
                        break;
                case OPT_TEARDOWN:
                        *teardown = true;
                        break;
                case 'v':
                        log_set_max_level(LOG_DEBUG);
                        break;
                case 'h':
                        usage(stdout);
                        return 1;
                case OPT_VERSION:
                        puts("slimd " SLIM_VERSION);
                        return 1;
                default:
                        return 2;
                }
        }
        if (optind < argc) {
                log_error("\"%s\" is not an option (see slimd --help)", argv[optind]);
                return 2;
        }
        return 0;
}

static int check_not_empty(const struct slimd_options *o)
{
        const struct {
                const char *option, *value;
        } values[] = {
            {"--run-dir", o->run_dir},         {"--bpf-dir", o->bpf_dir},
            {"--cgroup", o->cgroup},           {"--store", o->store},
            {"--underlay", o->underlay},       {"--broker", o->broker},
            {"--host-cgroup", o->host_cgroup},
        };

        for (size_t i = 0; i < ARRAY_SIZE(values); i++)
                if (values[i].value && !values[i].value[0]) {
                        log_error("%s is empty", values[i].option);
                        return -EINVAL;
                }
        return 0;
}

/* The directory "slim" below where a file system of this type is mounted. -ENOENT: nowhere. */
static int find_place(const char *type, char ret[PATH_MAX])
{
        char mount[PATH_MAX];
        int r = mounts_find(type, mount, sizeof(mount));

        if (r < 0)
                return r;
        return snprintf(ret, PATH_MAX, "%s/slim", mount) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int fill_in(struct slimd *d, bool teardown, struct defaults *f)
{
        struct slimd_options *o = &d->opt;
        int r;

        r = check_not_empty(o);
        if (r < 0)
                return r;
        if (!o->bpf_dir) {
                r = find_place("bpf", f->bpf_dir);
                if (r == -ENOENT) /* not mounted: host_prepare() mounts it there */
                        r = snprintf(f->bpf_dir, sizeof(f->bpf_dir), "/sys/fs/bpf/slim");
                if (r < 0)
                        return log_error_errno(r, "cannot find the BPF file system: %m: give a "
                                                  "directory on one with --bpf-dir");
                o->bpf_dir = f->bpf_dir;
        }
        if (!o->cgroup) {
                r = find_place("cgroup2", f->cgroup);
                if (r < 0) {
                        log_error("no cgroup2 is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup, "
                                  "or give --cgroup");
                        return r;
                }
                o->cgroup = f->cgroup;
        }
        if (!o->host_cgroup) {
                r = mounts_find("cgroup2", f->host_cgroup, sizeof(f->host_cgroup));
                if (r < 0 && r != -ENOENT) /* then --cgroup is not on one either */
                        return log_error_errno(r, "cannot find where cgroup2 is mounted: %m");
                o->host_cgroup = r < 0 ? o->cgroup : f->host_cgroup;
        }
        if (!o->store) {
                if (mkdir(STATE_DIR, 0700) < 0 && errno != EEXIST)
                        return log_error_errno(-errno, "cannot make " STATE_DIR ": %m");
                o->store = "sqlite:" STATE_DIR "/store.db";
        }
        if (!o->host_name) {
                if (gethostname(f->host_name, sizeof(f->host_name)) < 0)
                        return log_error_errno(-errno, "cannot tell this host's name: %m");
                o->host_name = f->host_name;
        }
        if (!name_is_valid(o->host_name)) {
                log_error("--host-name \"%s\" is not a name: 1 to %d characters of a-z 0-9 - .",
                          o->host_name, NAME_LEN_MAX);
                return -EINVAL;
        }
        if (!o->underlay) {
                r = netlink_default_device(d->nl, f->underlay);
                if (r < 0 && teardown)
                        return 0; /* there may be nothing of it left to take down */
                if (r < 0) {
                        log_error("there is no default route: name the device with --underlay");
                        return r;
                }
                o->underlay = f->underlay;
        }
        if (teardown)
                return 0;
        if (!o->broker) {
                r = installed_path("slim-broker", "../broker/slim-broker", f->broker);
                if (r < 0)
                        return log_error_errno(r, "cannot find slim-broker: %m: give its path with "
                                                  "--broker");
                o->broker = f->broker;
        }
        if (access(o->broker, X_OK) < 0)
                return log_error_errno(-errno, "--broker \"%s\" cannot be run: %m", o->broker);
        d->broker_fd = open(o->broker, O_PATH | O_CLOEXEC);
        if (d->broker_fd < 0)
                return log_error_errno(-errno, "cannot open %s: %m", o->broker);
        return 0;
}

static int load_programs(struct slimd *d)
{
        /* On all of the containers, for the sockets of their brokers: the others have no identity
         * and pass. */
        struct datapath_options o = {
            .bpf_dir = d->opt.bpf_dir,
            .cgroup = d->opt.cgroup,
            .host_cgroup = d->opt.host_cgroup,
            .vxlan_ifindex = d->vxlan_ifindex,
            .underlay_ifindex = d->underlay.ifindex,
            .max_ports = d->opt.max_ports,
            .max_listeners = d->opt.max_listeners,
        };

        return datapath_open(&o, &d->dp);
}

/* Refuses in one line where something is missing, before anything is made. */
static int check_machine(void)
{
        char detail[PROBE_DETAIL_MAX];
        const struct probe *probe;
        int r = probe_required(&probe, detail);

        if (r < 0)
                log_error("%s: missing%s%s%s: %s", probe->what, detail[0] ? " (" : "", detail,
                          detail[0] ? ")" : "", probe->remedy);
        return r;
}

/* First all that may be refused, then what changes this host. */
static int start(struct slimd *d)
{
        int r;

        r = host_check(d);
        if (r == 0)
                r = check_machine();
        if (r == 0)
                r = metrics_start(d);
        if (r == 0)
                r = host_claim(d, true);
        if (r == 0)
                r = cluster_open(d, true);
        if (r == 0)
                r = host_prepare(d);
        if (r == 0)
                r = load_programs(d);
        if (r == 0)
                r = monitor_start(d);
        if (r == 0)
                r = policy_start(d);
        if (r == 0)
                r = revoke_start(d);
        if (r == 0)
                r = host_attach(d);
        if (r == 0)
                r = local_load(d);
        if (r == 0)
                r = cluster_start(d);
        if (r < 0)
                return r;
        local_adopt_all(d);
        limit_prune(d);
        return api_start(d);
}

/* SIGTERM and SIGINT end slimd and nothing else. */
static int take_signals(sd_event *event)
{
        static const int signals[] = {SIGTERM, SIGINT};
        sigset_t mask;
        int r;

        sigemptyset(&mask);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                sigaddset(&mask, signals[i]);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                r = sd_event_add_signal(event, NULL, signals[i], NULL, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Does without whatever is not there any more, or cannot be had: that is what it is for. */
static int teardown(struct slimd *d)
{
        int r;

        host_find(d);
        r = host_claim(d, false);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0)
                (void)local_load(d);
        /* Without the store, what it has of this host goes when the lease ends. */
        r = cluster_open(d, false);
        local_remove_all(d);
        if (r == 0)
                (void)cluster_leave(d);
        host_remove(d);
        return 0;
}

static int run(struct slimd *d, bool want_teardown, struct defaults *defaults)
{
        int r;

        r = netlink_open(-1, &d->nl);
        if (r < 0)
                return log_error_errno(r, "cannot talk to the kernel's network part: %m");
        r = fill_in(d, want_teardown, defaults);
        if (r < 0)
                return r;
        r = sd_event_new(&d->event);
        if (r >= 0)
                r = take_signals(d->event);
        if (r < 0)
                return log_error_errno(r, "cannot make an event loop: %m");
        if (want_teardown)
                return teardown(d);
        r = start(d);
        if (r < 0) {
                host_undo(d);
                return r;
        }
        log_info("host %s is ready", d->opt.host_name);
        (void)sd_notify(0, "READY=1");
        r = sd_event_loop(d->event);
        return r < 0 ? log_error_errno(r, "the event loop failed: %m") : 0;
}

int main(int argc, char **argv)
{
        struct slimd d = {
            .opt = {.run_dir = "/run/slim",
                    .max_sockets = 65536,
                    .max_ports = 32768,
                    .max_listeners = 8192},
            .since = time(NULL),
            .run_dir_fd = -1,
            .broker_fd = -1,
        };
        struct defaults defaults;
        bool want_teardown = false;
        int r;

        log_setup("slimd");
        r = parse(argc, argv, &d.opt, &want_teardown);
        if (r != 0)
                return r == 1 ? EXIT_SUCCESS : 2;
        if (geteuid() != 0) {
                log_error("slimd must run as root");
                return EXIT_FAILURE;
        }
        r = run(&d, want_teardown, &defaults);
        api_stop(&d);
        metrics_stop(&d);
        local_forget_all(&d);
        cluster_stop(&d);
        policy_stop(&d);
        revoke_stop(&d);
        monitor_stop(&d);
        if (d.dp)
                datapath_free(d.dp);
        if (d.nl)
                netlink_free(d.nl);
        sd_event_unref(d.event);
        safe_close(d.run_dir_fd);
        safe_close(d.broker_fd);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
