// SPDX-License-Identifier: Apache-2.0
/*
 * Each test has a mount namespace of its own, with a tmpfs to work in and none of the type that it
 * looks for; all of it goes with the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "shared/mounts.h"

/* Any file system that can be mounted again and again, and that nothing else here mounts. */
#define TYPE "ramfs"

/* A directory that is there on every machine, and now is our own. */
#define TOP "/mnt"

static int setup(void **state)
{
        char place[PATH_MAX];

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -1;
        while (umount2(TOP, MNT_DETACH) == 0) /* the test before's */
                ;
        for (int i = 0; i < 100 && mounts_find(TYPE, place, sizeof(place)) == 0; i++)
                if (umount2(place, MNT_DETACH) < 0)
                        return -1;
        return mount("tmpfs", TOP, "tmpfs", 0, NULL);
}

static void mount_at(const char *path)
{
        if (mkdir(path, 0755) < 0)
                assert_int_equal(errno, EEXIST);
        assert_int_equal(mount("none", path, TYPE, 0, NULL), 0);
}

static void test_nowhere(void **state)
{
        char place[PATH_MAX] = "untouched";

        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), -ENOENT);
        assert_int_equal(mounts_find("no-such-type", place, sizeof(place)), -ENOENT);
        assert_int_equal(mounts_find("", place, sizeof(place)), -ENOENT);
        assert_string_equal(place, "untouched");
}

static void test_found(void **state)
{
        char place[PATH_MAX];

        mount_at(TOP "/a");
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/a");
        /* A type is a whole word. */
        assert_int_equal(mounts_find("ram", place, sizeof(place)), -ENOENT);
        assert_int_equal(mounts_find(TYPE "x", place, sizeof(place)), -ENOENT);

        /* The first of several. */
        mount_at(TOP "/b");
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/a");
        assert_int_equal(umount(TOP "/a"), 0);
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/b");
        assert_int_equal(umount(TOP "/b"), 0);
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), -ENOENT);
}

/* A part of a file system that is bound elsewhere is not the file system. */
static void test_part(void **state)
{
        char place[PATH_MAX];

        mount_at(TOP "/whole");
        assert_int_equal(mkdir(TOP "/whole/inner", 0755), 0);
        assert_int_equal(mkdir(TOP "/part", 0755), 0);
        assert_int_equal(mount(TOP "/whole/inner", TOP "/part", NULL, MS_BIND, NULL), 0);
        assert_int_equal(umount2(TOP "/whole", MNT_DETACH), 0);
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), -ENOENT);
        /* Whole again, and behind the part in the table. */
        mount_at(TOP "/whole");
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/whole");
}

/* What the kernel writes as \ooo, and what only looks like it. */
static void test_escaped(void **state)
{
        static const char *const names[] = {
            "a b", " ", "a\tb", "a\nb", "a\\b", "\\", "\\040", "a - ramfs b", "x\\\\ \\012", "#",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                char path[PATH_MAX], place[PATH_MAX];

                snprintf(path, sizeof(path), "%s/%s", TOP, names[i]);
                mount_at(path);
                assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
                assert_string_equal(place, path);
                assert_int_equal(umount(path), 0);
        }
        /* A source that looks like a type, on another file system. */
        assert_int_equal(mkdir(TOP "/other", 0755), 0);
        assert_int_equal(mount(TYPE, TOP "/other", "tmpfs", 0, NULL), 0);
        assert_int_equal(mount("- " TYPE, TOP "/other", "tmpfs", 0, NULL), 0);
        assert_int_equal(mounts_find(TYPE, (char[64]){""}, 64), -ENOENT);
}

static void test_size(void **state)
{
        char place[sizeof(TOP "/abc")] = "untouch";

        mount_at(TOP "/abc");
        for (size_t size = 0; size < sizeof(place); size++) {
                assert_int_equal(mounts_find(TYPE, place, size), -ENAMETOOLONG);
                assert_string_equal(place, "untouch");
        }
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/abc");
}

/* A table that is longer than one read of it. */
static void test_many(void **state)
{
        char path[PATH_MAX], place[PATH_MAX];

        for (int i = 0; i < 200; i++) {
                snprintf(path, sizeof(path), "%s/%0200d", TOP, i);
                assert_int_equal(mkdir(path, 0755), 0);
                assert_int_equal(mount("none", path, "tmpfs", 0, NULL), 0);
        }
        mount_at(TOP "/last");
        assert_int_equal(mounts_find(TYPE, place, sizeof(place)), 0);
        assert_string_equal(place, TOP "/last");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
            TEST(test_nowhere), TEST(test_found), TEST(test_part),
            TEST(test_escaped), TEST(test_size),  TEST(test_many),
#undef TEST
        };

        if (unshare(CLONE_NEWNS) < 0) {
                printf("1..0 # SKIP cannot make a mount namespace (%s): run as root\n",
                       strerror(errno));
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
