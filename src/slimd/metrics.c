/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"

#define CONNECTIONS_MAX  16
#define CONNECTION_BYTES 16384 /* of memory for each, headers and all */
#define TIMEOUT_S        5     /* of a silent connection */

/* Maps are counted by walking them: whoever asks more often gets what the last one got. */
#define AGE_NS 1000000000ULL

#define NSEC_PER_SEC 1000000000ULL

struct metrics {
        struct slimd *d;
        struct MHD_Daemon *daemon;
        sd_event_source *source, *timer;
        char *text;
        size_t len;
        uint64_t made; /* CLOCK_MONOTONIC, ns */
};

static int make_text(struct metrics *m, uint64_t now)
{
        _cleanup_free_ char *text = NULL;
        size_t len = 0;
        int r = metrics_text(m->d, &text, &len);

        if (r < 0)
                return r;
        free(m->text);
        m->text = TAKE_PTR(text);
        m->len = len;
        m->made = now;
        return 0;
}

/* --- HTTP ------------------------------------------------------------------------------------- */

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned int status,
                               const char *text, size_t len)
{
        /* The text may be made anew while this one is still being sent. */
        struct MHD_Response *response =
            MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
        enum MHD_Result r = MHD_NO;

        if (!response)
                return MHD_NO;
        if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                    "text/plain; version=0.0.4; charset=utf-8") == MHD_YES &&
            (status != MHD_HTTP_METHOD_NOT_ALLOWED ||
             MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, MHD_HTTP_METHOD_GET) ==
                 MHD_YES))
                r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
}

static enum MHD_Result respond_sentence(struct MHD_Connection *connection, unsigned int status,
                                        const char *sentence)
{
        return respond(connection, status, sentence, strlen(sentence));
}

/* Answers as soon as the headers are there: what follows them is not read. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *data_len, void **state)
{
        struct metrics *m = userdata;
        struct timespec t;
        uint64_t now;

        if (strcmp(path, "/metrics") != 0)
                return respond_sentence(connection, MHD_HTTP_NOT_FOUND,
                                        "There is nothing but /metrics.\n");
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
                return respond_sentence(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                                        "There is nothing but GET.\n");
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
        if (!m->text || now - m->made >= AGE_NS) {
                int r = make_text(m, now);

                if (r < 0) {
                        log_warning_errno(r, "cannot make the metrics: %m, ignoring");
                        return respond_sentence(connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
                                                "The figures cannot be had: see slimd's log.\n");
                }
        }
        return respond(connection, MHD_HTTP_OK, m->text, m->len);
}

static void _printf_(2, 0) on_log(void *userdata, const char *format, va_list ap)
{
        _cleanup_free_ char *text = NULL;

        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return;
        }
        text[strcspn(text, "\n")] = '\0';
        log_debug("metrics: %s", text);
}

/* --- in slimd's loop -------------------------------------------------------------------------- */

static unsigned int connections(const struct metrics *m)
{
        const union MHD_DaemonInfo *info =
            MHD_get_daemon_info(m->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

        return info ? info->num_connections : 0;
}

/* One turn, and the next one at the latest when a silent connection is to be cut off. */
static int turn(struct metrics *m)
{
        bool full = connections(m) == CONNECTIONS_MAX;
        MHD_UNSIGNED_LONG_LONG ms = 0;

        (void)MHD_run(m->daemon);
        /* Having been full, it listens again in the turn after the one that made room, for which
         * there may be no other cause. */
        if (full && connections(m) < CONNECTIONS_MAX)
                (void)MHD_run(m->daemon);
        if (MHD_get_timeout(m->daemon, &ms) != MHD_YES)
                return sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
        sd_event_source_set_time_relative(m->timer, ms * 1000);
        return sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
        return turn(userdata);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        return turn(userdata);
}

/* "ADDR:PORT" or "[ADDR]:PORT"; the length of the address, or -EINVAL. */
static int parse(const char *text, struct sockaddr_storage *ret)
{
        struct sockaddr_in *sin = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;
        const char *colon = strrchr(text, ':');
        bool brackets = text[0] == '[';
        char addr[INADDR_TEXT_MAX];
        uint64_t port = 0;
        size_t len;

        if (!colon || parse_uint(colon + 1, 1, UINT16_MAX, &port) < 0)
                return -EINVAL;
        len = (size_t)(colon - text);
        if (brackets && (len < 2 || text[len - 1] != ']'))
                return -EINVAL;
        len -= brackets ? 2 : 0;
        if (len >= sizeof(addr))
                return -EINVAL;
        memcpy(addr, text + brackets, len);
        addr[len] = '\0';
        memset(ret, 0, sizeof(*ret));
        if (brackets && inet_pton(AF_INET6, addr, &sin6->sin6_addr) == 1) {
                sin6->sin6_family = AF_INET6;
                sin6->sin6_port = htons((uint16_t)port);
                return sizeof(*sin6);
        }
        if (!brackets && inet_pton(AF_INET, addr, &sin->sin_addr) == 1) {
                sin->sin_family = AF_INET;
                sin->sin_port = htons((uint16_t)port);
                return sizeof(*sin);
        }
        return -EINVAL;
}

static int listen_at(const char *text, int *ret)
{
        _cleanup_close_ int fd = -1;
        struct sockaddr_storage addr;
        int len = parse(text, &addr), on = 1;

        if (len < 0) {
                log_error("--metrics \"%s\" is not ADDRESS:PORT or [ADDRESS]:PORT", text);
                return len;
        }
        fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* [::] is that alone, since 0.0.0.0 was not asked for. */
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            (addr.ss_family == AF_INET6 &&
             setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
            bind(fd, (const struct sockaddr *)&addr, (socklen_t)len) < 0 ||
            listen(fd, CONNECTIONS_MAX) < 0)
                return log_error_errno(-errno, "cannot serve --metrics at %s: %m", text);
        *ret = TAKE_FD(fd);
        return 0;
}

int metrics_start(struct slimd *d)
{
        const union MHD_DaemonInfo *info;
        _cleanup_close_ int fd = -1;
        struct metrics *m;
        int r;

        if (!d->opt.metrics)
                return 0;
        r = listen_at(d->opt.metrics, &fd);
        if (r < 0)
                return r;
        m = d->metrics = new0(struct metrics, 1);
        if (!m)
                return log_error_errno(-ENOMEM, "cannot serve metrics: %m");
        m->d = d;
        m->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
                                     m, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                                     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                     (unsigned int)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                                     (unsigned int)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                     (size_t)CONNECTION_BYTES, MHD_OPTION_END);
        if (!m->daemon) {
                log_error("cannot serve metrics: libmicrohttpd does not start");
                return -EIO;
        }
        TAKE_FD(fd); /* the daemon's */
        info = MHD_get_daemon_info(m->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        r = info ? sd_event_add_io(d->event, &m->source, info->epoll_fd, EPOLLIN, on_io, m) : -EIO;
        if (r >= 0)
                r = sd_event_add_time_relative(d->event, &m->timer, CLOCK_MONOTONIC, 0, 1, on_time,
                                               m);
        return r < 0 ? log_error_errno(r, "cannot serve metrics: %m") : 0;
}

void metrics_stop(struct slimd *d)
{
        struct metrics *m = d->metrics;

        if (!m)
                return;
        sd_event_source_disable_unref(m->source);
        sd_event_source_disable_unref(m->timer);
        if (m->daemon)
                MHD_stop_daemon(m->daemon);
        free(m->text);
        free(m);
        d->metrics = NULL;
}
