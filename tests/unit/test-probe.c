/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probes find what is there, and say so when it is not: each kind is also run where the thing
 * is missing, in a child process that has given it up.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "shared/filter.h"
#include "shared/probe.h"

static const struct probe *find(const char *id)
{
        size_t n;
        const struct probe *list = probe_list(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(list[i].id, id) == 0)
                        return &list[i];
        fail_msg("there is no probe %s", id);
        return NULL;
}

static unsigned int count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

/* Runs a probe in a child where `without` has been called. Its answer; -ENOTRECOVERABLE: no. */
static int run_without(const char *id, int (*without)(void), char *detail)
{
        struct {
                int r;
                char detail[PROBE_DETAIL_MAX];
        } answer = {.r = -ENOTRECOVERABLE};
        const struct probe *p = find(id);
        int fds[2], status;
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (without() == 0)
                        answer.r = p->run(answer.detail, sizeof(answer.detail));
                write_full(fds[1], &answer, sizeof(answer));
                _exit(0);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &answer, sizeof(answer)), sizeof(answer));
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        snprintf(detail, PROBE_DETAIL_MAX, "%s", answer.detail);
        return answer.r;
}

static void test_list(void **state)
{
        size_t n;
        const struct probe *list = probe_list(&n);

        assert_true(n > 30);
        for (size_t i = 0; i < n; i++) {
                assert_non_null(list[i].run);
                assert_true(strlen(list[i].what) > 0);
                assert_true(strlen(list[i].remedy) > 0);
                assert_null(strpbrk(list[i].remedy, "\n"));
                assert_ptr_equal(find(list[i].id), &list[i]); /* no name twice */
        }
}

/* The machine that the tests of the data path run on has all of it; the probes see that. */
static void test_required(void **state)
{
        const struct probe *missing = NULL;
        char detail[PROBE_DETAIL_MAX] = "";
        unsigned int fds = count_fds();

        if (probe_required(&missing, detail) < 0)
                fail_msg("%s: %s", missing->id, detail);
        assert_int_equal(count_fds(), fds);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left either */
        assert_int_equal(errno, ECHILD);
        assert_int_equal(if_nametoindex("probe0"), 0);
}

static void test_every_detail_fits(void **state)
{
        size_t n;
        const struct probe *list = probe_list(&n);

        for (size_t i = 0; i < n; i++) {
                char guarded[24];

                memset(guarded, 'x', sizeof(guarded));
                guarded[0] = '\0';
                list[i].run(guarded, 16);
                assert_non_null(memchr(guarded, '\0', 16));
                assert_memory_equal(guarded + 16, "xxxxxxxx", 8);
        }
}

static int become_nobody(void)
{
        return setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
               setresuid(65534, 65534, 65534) < 0;
}

static void test_unprivileged(void **state)
{
        static const char *const ids[] = {"privileges", "connect4", "sk_lookup",  "set_retval",
                                          "hdr_opt",    "lru_hash", "sk_storage", "addfd",
                                          "veth",       "vxlan",    "masquerade", "htb"};
        char detail[PROBE_DETAIL_MAX];

        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
                int r = run_without(ids[i], become_nobody, detail);

                if (r != -EPERM && r != -EACCES)
                        fail_msg("%s answers %d as nobody", ids[i], r);
                assert_true(strlen(detail) > 0);
        }
}

/* A private mount table with nothing of cgroup2 and bpf in it. */
static int unmount_all(void)
{
        static const char *const types[] = {"cgroup2", "bpf"};

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        for (size_t i = 0; i < 2; i++)
                for (;;) {
                        char line[4096], where[1024], type[64];
                        FILE *f = fopen("/proc/self/mounts", "re");
                        int found = 0;

                        if (!f)
                                return -errno;
                        while (!found && fgets(line, sizeof(line), f))
                                found = sscanf(line, "%*s %1023s %63s", where, type) == 2 &&
                                        strcmp(type, types[i]) == 0;
                        fclose(f);
                        if (!found)
                                break;
                        if (umount2(where, MNT_DETACH) < 0)
                                return -errno;
                }
        return 0;
}

static void test_mounts(void **state)
{
        char detail[PROBE_DETAIL_MAX];

        assert_int_equal(find("cgroup2")->run(detail, sizeof(detail)), 0);
        assert_memory_equal(detail, "at /", 4);
        assert_int_equal(run_without("cgroup2", unmount_all, detail), -ENOENT);
        assert_int_equal(run_without("bpffs", unmount_all, detail), 0);
        assert_string_equal(detail, "not mounted, but can be: slimd does it");
        assert_int_equal(run_without("btf", unmount_all, detail), 0);
}

/* A network namespace of its own, with the settings that a test writes there. */
static int with_ports(const char *range, const char *reserved)
{
        int r;

        if (unshare(CLONE_NEWNET) < 0)
                return -errno;
        r = write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_port_range", range);
        if (r < 0)
                return r;
        return write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_reserved_ports", reserved);
}

static int ports_apart(void)
{
        return with_ports("32768 60999", "\n");
}

static int ports_touch(void)
{
        return with_ports("32768 61440", "\n");
}

static int ports_inside(void)
{
        return with_ports("1024 65535", "61440-61694");
}

static int ports_hole(void)
{
        return with_ports("1024 65535", "61440-61500,61502-61695");
}

static int ports_reserved(void)
{
        return with_ports("1024 65535", "80,61000-61500,61501-62000");
}

static void test_slim_ports(void **state)
{
        char detail[PROBE_DETAIL_MAX];

        assert_int_equal(run_without("slim_ports", ports_apart, detail), 0);
        assert_int_equal(run_without("slim_ports", ports_touch, detail), -EADDRINUSE);
        assert_int_equal(run_without("slim_ports", ports_inside, detail), -EADDRINUSE);
        assert_int_equal(run_without("slim_ports", ports_hole, detail), -EADDRINUSE);
        assert_int_equal(run_without("slim_ports", ports_reserved, detail), 0);
}

static int forward_off(void)
{
        if (unshare(CLONE_NEWNET) < 0)
                return -errno;
        return write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "0");
}

static int forward_on(void)
{
        if (unshare(CLONE_NEWNET) < 0)
                return -errno;
        return write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1");
}

static void test_ip_forward(void **state)
{
        char detail[PROBE_DETAIL_MAX];

        assert_true(run_without("ip_forward", forward_off, detail) < 0);
        assert_int_equal(run_without("ip_forward", forward_on, detail), 0);
}

static int few_files(void)
{
        struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};

        return setrlimit(RLIMIT_NOFILE, &limit);
}

static void test_nofile(void **state)
{
        char detail[PROBE_DETAIL_MAX];

        assert_int_equal(run_without("nofile", few_files, detail), -EMFILE);
        assert_string_equal(detail, "the limit is 1024");
}

static int under_a_filter(void)
{
        int fd;

        return filter_load(&fd); /* open until the child ends */
}

static void test_under_a_filter(void **state)
{
        char detail[PROBE_DETAIL_MAX];

        assert_int_equal(run_without("addfd", under_a_filter, detail), -EBUSY);
        assert_int_equal(run_without("notify", under_a_filter, detail), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_list),
            cmocka_unit_test(test_required),
            cmocka_unit_test(test_every_detail_fits),
            cmocka_unit_test(test_unprivileged),
            cmocka_unit_test(test_mounts),
            cmocka_unit_test(test_slim_ports),
            cmocka_unit_test(test_ip_forward),
            cmocka_unit_test(test_nofile),
            cmocka_unit_test(test_under_a_filter),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP needs root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
