/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *log_program;
static int log_max_level = LOG_INFO;
static bool log_to_journal;

/* systemd.exec(5): JOURNAL_STREAM is "device:inode" of what was the journal when it was set. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long dev, ino;
        struct stat st;

        return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_setup(const char *program)
{
        log_program = program;
        log_to_journal = stderr_is_journal();
}

void log_set_max_level(int level)
{
        log_max_level = level;
}

int log_full(int level, int error, const char *format, ...)
{
        char line[2048];
        size_t at = 0;
        int saved = errno, n;
        va_list ap;

        if (level > log_max_level)
                return error;
        if (log_to_journal)
                n = snprintf(line, sizeof(line), "<%d>", level);
        else if (log_program)
                n = snprintf(line, sizeof(line), "%s: ", log_program);
        else
                n = 0;
        if (n > 0)
                at = (size_t)n;

        errno = -error;
        va_start(ap, format);
        n = vsnprintf(line + at, sizeof(line) - 1 - at, format, ap);
        va_end(ap);
        if (n > 0)
                at += (size_t)n;
        if (at > sizeof(line) - 2)
                at = sizeof(line) - 2;
        /* One message is one line, whatever a peer put into it. */
        for (size_t i = 0; i < at; i++)
                if ((unsigned char)line[i] < 0x20)
                        line[i] = ' ';
        line[at++] = '\n';
        if (write(STDERR_FILENO, line, at) < 0)
                errno = saved; /* nowhere left to complain to */
        errno = saved;
        return error;
}
