/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One line per message on standard error, with systemd's priority prefix when the journal reads it.
 * Library code logs at debug; the program that gives up logs once:
 *
 *         return log_error_errno(r, "cannot open %s: %m", path);
 */
#include "macro.h"
#include <errno.h>
#include <stdbool.h>
#include <syslog.h>

/* Sets the name that stands before every message. The string is kept, not copied. */
void log_setup(const char *program);

/* Messages above this syslog level are not printed. LOG_INFO at start. */
void log_set_max_level(int level);

/*
 * Prints a message; error is a negative errno (or 0) that %m stands for. Returns error, so that
 * it can be returned in turn.
 */
int log_full(int level, int error, const char *format, ...) _printf_(3, 4);

#define log_error(...)            ((void)log_full(LOG_ERR, 0, __VA_ARGS__))
#define log_warning(...)          ((void)log_full(LOG_WARNING, 0, __VA_ARGS__))
#define log_info(...)             ((void)log_full(LOG_INFO, 0, __VA_ARGS__))
#define log_debug(...)            ((void)log_full(LOG_DEBUG, 0, __VA_ARGS__))
#define log_error_errno(r, ...)   log_full(LOG_ERR, (r), __VA_ARGS__)
#define log_warning_errno(r, ...) log_full(LOG_WARNING, (r), __VA_ARGS__)
#define log_debug_errno(r, ...)   log_full(LOG_DEBUG, (r), __VA_ARGS__)
