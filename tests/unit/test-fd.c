// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/fd.h"

static bool is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

static int null_fd(void)
{
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void test_safe_close(void **state)
{
        int fd = null_fd();

        errno = EXDEV;
        assert_int_equal(safe_close(fd), -1);
        assert_false(is_open(fd));
        errno = EXDEV;
        assert_int_equal(safe_close(-1), -1);
        assert_int_equal(errno, EXDEV);
        /* A failing close() does not touch errno either. */
        assert_int_equal(safe_close(fd), -1);
        assert_int_equal(errno, EXDEV);
}

static void test_cleanup_and_take(void **state)
{
        int inside, taken;

        {
                _cleanup_close_ int fd = null_fd();

                inside = fd;
                assert_true(is_open(inside));
        }
        assert_false(is_open(inside));
        {
                _cleanup_close_ int fd = null_fd();

                inside = fd;
                taken = TAKE_FD(fd);
                assert_int_equal(fd, -1);
        }
        assert_int_equal(taken, inside);
        assert_true(is_open(taken));
        safe_close(taken);
}

static void test_cleanup_free_and_take(void **state)
{
        char *taken;

        {
                _cleanup_free_ char *p =
                    strdup("kept"); /* a leak or a double free: ASan, valgrind */
                _cleanup_free_ char *gone _unused_ = strdup("gone");

                assert_non_null(p);
                taken = TAKE_PTR(p);
                assert_null(p);
        }
        assert_string_equal(taken, "kept");
        free(taken);
}

/* A file that needs no name of its own to be removed: what it holds, and a path that opens it. */
struct memory_file {
        int fd;
        char path[64];
};

static struct memory_file memory_file(size_t len)
{
        struct memory_file m = {.fd = memfd_create("test-fd", MFD_CLOEXEC)};

        assert_true(m.fd >= 0);
        for (size_t i = 0; i < len; i++) {
                const char c = (char)('a' + i % 26);

                assert_int_equal(pwrite(m.fd, &c, 1, (off_t)i), 1);
        }
        snprintf(m.path, sizeof(m.path), "/proc/self/fd/%d", m.fd);
        return m;
}

static void test_read_file(void **state)
{
        /* Around the buffer's size and its doublings. */
        static const size_t sizes[] = {0, 1, 4094, 4095, 4096, 4097, 8191, 8192, 20000};

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct memory_file m = memory_file(sizes[i]);
                _cleanup_close_ int fd = m.fd;
                _cleanup_free_ char *text = NULL;
                size_t len;

                assert_int_equal(read_file_at(AT_FDCWD, m.path, 20000, &text, &len), 0);
                assert_int_equal(len, sizes[i]);
                assert_int_equal(text[len], '\0');
                for (size_t j = 0; j < len; j++)
                        assert_int_equal(text[j], 'a' + j % 26);
        }
}

static void test_read_file_limit(void **state)
{
        static const size_t limits[] = {0, 1, 4095, 4096, 5000};

        for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
                struct memory_file fits = memory_file(limits[i]);
                _cleanup_close_ int fits_fd = fits.fd;
                struct memory_file longer = memory_file(limits[i] + 1);
                _cleanup_close_ int longer_fd = longer.fd;
                _cleanup_free_ char *text = NULL;
                char *untouched = fits.path;

                assert_int_equal(read_file_at(AT_FDCWD, fits.path, limits[i], &text, NULL), 0);
                assert_int_equal(strlen(text), limits[i]);
                assert_int_equal(read_file_at(AT_FDCWD, longer.path, limits[i], &untouched, NULL),
                                 -E2BIG);
                assert_ptr_equal(untouched, fits.path);
        }
}

static void test_read_file_errors(void **state)
{
        _cleanup_close_ int null = null_fd();
        _cleanup_close_ int dir = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;

        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/no-such-file", 10, &text, NULL),
                         -ENOENT);
        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self", 10, &text, NULL), -EISDIR);
        assert_int_equal(read_file_at(null, "x", 10, &text, NULL), -ENOTDIR);
        assert_null(text);
        /* Below a directory's descriptor. */
        assert_int_equal(read_file_at(dir, "status", 1 << 16, &text, NULL), 0);
        assert_int_equal(strncmp(text, "Name:", 5), 0);
}

static void test_write_file(void **state)
{
        struct memory_file m = memory_file(0);
        _cleanup_close_ int fd = m.fd;
        _cleanup_free_ char *text = NULL;

        assert_int_equal(write_file_at(AT_FDCWD, m.path, "1234"), 0);
        assert_int_equal(read_file_at(AT_FDCWD, m.path, 100, &text, NULL), 0);
        assert_string_equal(text, "1234");
        assert_int_equal(write_file_at(AT_FDCWD, "/proc/self/no-such-file", "x"), -ENOENT);
        assert_int_equal(write_file_at(AT_FDCWD, "/dev/full", "x"), -ENOSPC);
}

/* Through a pipe that is smaller than the buffer: every write() is a short one. */
static void test_write_full(void **state)
{
        static char buf[300000];
        size_t at = 0;
        int p[2], status;
        pid_t pid;

        for (size_t i = 0; i < sizeof(buf); i++)
                buf[i] = (char)(i * 7 + i / 251);
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_true(fcntl(p[1], F_SETPIPE_SZ, 4096) >= 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(p[0]);
                _exit(write_full(p[1], buf, sizeof(buf)) == 0 ? 0 : 1);
        }
        close(p[1]);
        for (;;) {
                char chunk[1000];
                ssize_t n = read(p[0], chunk, sizeof(chunk));

                assert_true(n >= 0);
                if (n == 0)
                        break;
                assert_true(at + (size_t)n <= sizeof(buf));
                assert_memory_equal(chunk, buf + at, (size_t)n);
                at += (size_t)n;
        }
        close(p[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(at, sizeof(buf));
}

static void test_write_full_errors(void **state)
{
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

        assert_int_equal(write_full(full, "x", 1), -ENOSPC);
        assert_int_equal(write_full(full, "x", 0), 0);
        assert_int_equal(write_full(-1, "x", 1), -EBADF);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_safe_close),
            cmocka_unit_test(test_cleanup_and_take),
            cmocka_unit_test(test_cleanup_free_and_take),
            cmocka_unit_test(test_read_file),
            cmocka_unit_test(test_read_file_limit),
            cmocka_unit_test(test_read_file_errors),
            cmocka_unit_test(test_write_file),
            cmocka_unit_test(test_write_full),
            cmocka_unit_test(test_write_full_errors),
        };

        return cmocka_run_group_tests_name("fd", tests, NULL, NULL);
}
