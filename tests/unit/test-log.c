// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/log.h"

/* Standard error goes into a pipe for the time of a test; a message is at most one write. */
struct capture {
        int saved;
        int read_fd;
        char text[8192];
};

static int capture_start(void **state)
{
        static struct capture c;
        int p[2];

        if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
                return -1;
        c.saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        c.read_fd = p[0];
        dup2(p[1], STDERR_FILENO);
        close(p[1]);
        unsetenv("JOURNAL_STREAM");
        log_setup("slim-test");
        log_set_max_level(LOG_INFO);
        *state = &c;
        return 0;
}

static int capture_end(void **state)
{
        struct capture *c = *state;

        dup2(c->saved, STDERR_FILENO);
        close(c->saved);
        close(c->read_fd);
        return 0;
}

/* What was written since the last call; "" if nothing. */
static const char *captured(struct capture *c)
{
        ssize_t n = read(c->read_fd, c->text, sizeof(c->text) - 1);

        c->text[n > 0 ? n : 0] = '\0';
        return c->text;
}

static void test_plain(void **state)
{
        log_info("listening on %s", "/run/slim");
        assert_string_equal(captured(*state), "slim-test: listening on /run/slim\n");
        log_setup(NULL);
        log_info("no name");
        assert_string_equal(captured(*state), "no name\n");
}

static void test_journal(void **state)
{
        char stream[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
        log_setup("slim-test");
        log_warning("careful");
        assert_string_equal(captured(*state), "<4>careful\n");
        log_error("broken");
        assert_string_equal(captured(*state), "<3>broken\n");
}

/* Set by the journal for a parent, whose standard error ours is not. */
static void test_not_the_journal(void **state)
{
        setenv("JOURNAL_STREAM", "8:1", 1);
        log_setup("slim-test");
        log_warning("careful");
        assert_string_equal(captured(*state), "slim-test: careful\n");
}

static void test_levels(void **state)
{
        log_debug("hidden");
        assert_string_equal(captured(*state), "");
        log_set_max_level(LOG_DEBUG);
        log_debug("shown");
        assert_string_equal(captured(*state), "slim-test: shown\n");
        log_set_max_level(LOG_ERR);
        log_warning("hidden");
        log_info("hidden");
        assert_string_equal(captured(*state), "");
        log_error("shown");
        assert_string_equal(captured(*state), "slim-test: shown\n");
}

static void test_errno(void **state)
{
        errno = EXDEV;
        assert_int_equal(log_error_errno(-ENOENT, "cannot open %s: %m", "x"), -ENOENT);
        assert_string_equal(captured(*state),
                            "slim-test: cannot open x: No such file or directory\n");
        assert_int_equal(errno, EXDEV);
        /* The error is handed back whether or not it is printed. */
        assert_int_equal(log_debug_errno(-EBUSY, "hidden"), -EBUSY);
        assert_int_equal(errno, EXDEV);
        assert_string_equal(captured(*state), "");
}

static void test_one_line(void **state)
{
        log_error("peer says %s", "a\nslimd: b\r\tc\x1b[31m");
        assert_string_equal(captured(*state), "slim-test: peer says a slimd: b  c [31m\n");
        log_error("%s", "f\xc3\xbcr");
        assert_string_equal(captured(*state), "slim-test: f\xc3\xbcr\n");
}

/* Around the line buffer's end: cut, one newline, nothing lost before the cut. */
static void test_long(void **state)
{
        static char text[5000];

        for (size_t len = 2000; len < 2100; len++) {
                const char *got;
                size_t n;

                memset(text, 'x', len);
                text[len] = '\0';
                log_error("%s", text);
                got = captured(*state);
                n = strlen(got);
                assert_true(n <= 2048);
                assert_ptr_equal(strchr(got, '\n'), got + n - 1);
                assert_memory_equal(got, "slim-test: ", 11);
                assert_int_equal(strspn(got + 11, "x"), n - 12);
                if (len + 12 < 2048)
                        assert_int_equal(n, len + 12);
                else
                        assert_true(n >= 2046);
        }
}

static void test_stderr_closed(void **state)
{
        _cleanup_close_ int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        int r;

        close(STDERR_FILENO);
        errno = EXDEV;
        r = log_error_errno(-EPIPE, "nobody hears this");
        dup2(saved, STDERR_FILENO);
        assert_int_equal(r, -EPIPE);
        assert_int_equal(errno, EXDEV);
}

#define test(f) cmocka_unit_test_setup_teardown(f, capture_start, capture_end)

int main(void)
{
        const struct CMUnitTest tests[] = {
            test(test_plain),  test(test_journal),       test(test_not_the_journal),
            test(test_levels), test(test_errno),         test(test_one_line),
            test(test_long),   test(test_stderr_closed),
        };

        return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
