/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "monitor.h"

/* With more clients than that, the one that has been silent for longest is cut off, unless it
 * watches events, and so is one that lets answers pile up beyond this. */
#define CLIENTS_MAX 256
#define PENDING_MAX (64U << 20)

_Static_assert(MONITORS_MAX < CLIENTS_MAX, "nobody could be cut off");

static const struct {
        const char *name;
        int (*run)(struct api_call *call);
} methods[] = {
    {"Network.Create", api_network_create},
    {"Network.List", api_network_list},
    {"Network.Label", api_network_label},
    {"Network.Remove", api_network_remove},
    {"Endpoint.Add", api_endpoint_add},
    {"Endpoint.Attach", api_endpoint_attach},
    {"Endpoint.Detach", api_endpoint_detach},
    {"Endpoint.List", api_endpoint_list},
    {"Endpoint.Show", api_endpoint_show},
    {"Endpoint.Label", api_endpoint_label},
    {"Endpoint.Limit", api_endpoint_limit},
    {"Event.Monitor", api_event_monitor},
    {"Connection.List", api_connection_list},
    {"Policy.Apply", api_policy_apply},
    {"Policy.List", api_policy_list},
    {"Policy.Show", api_policy_show},
    {"Policy.Remove", api_policy_remove},
    {"Policy.Check", api_policy_check},
    {"Key.Show", api_key_show},
    {"Key.Rotate", api_key_rotate},
    {"Status", api_status},
};

struct client {
        struct api *api;
        struct rpc *rpc;
        sd_event_source *source;
        struct client *next, **link; /* link points at what points at this one; the latest first */
};

struct api {
        struct slimd *d;
        char *path;
        int fd;
        sd_event_source *source;
        struct client *clients;
        unsigned int n_clients;
};

int api_fail(struct api_call *call, int r, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        free(call->error);
        if (vasprintf(&call->error, format, ap) < 0)
                call->error = NULL;
        va_end(ap);
        return r;
}

int api_check_name(struct api_call *call, const char *what, const char *name)
{
        if (name_is_valid(name))
                return 0;
        return api_fail(call, -EINVAL,
                        "%s \"%s\" is not a name: 1 to %d characters of a-z 0-9 - ., beginning and "
                        "ending with a letter or digit",
                        what, name, NAME_LEN_MAX);
}

static json_t *run(struct client *c, const json_t *message, const int *fds, size_t n_fds)
{
        _cleanup_json_ json_t *none = json_object();
        const char *name = json_string_value(json_object_get(message, "method"));
        json_t *parameters = json_object_get(message, "parameters");
        struct api_call call = {
            .d = c->api->d,
            .client = c,
            .parameters = parameters ?: none,
            .fds = fds,
            .n_fds = n_fds,
            .answer = json_object(),
        };
        json_t *answer;
        int r = -ENOSYS;

        if (!name || !json_is_object(call.parameters)) {
                r = api_fail(&call, -EINVAL, "a call is {\"method\": …, \"parameters\": {…}}");
        } else {
                for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
                        if (strcmp(methods[i].name, name) == 0)
                                r = methods[i].run(&call);
                if (r == -ENOSYS)
                        (void)api_fail(&call, r, "there is no method \"%s\"", name);
        }
        if (r < 0) {
                json_decref(call.answer);
                answer = json_pack("{s:s, s:i}", "error", call.error ?: strerror(-r), "errno", -r);
        } else {
                answer = json_pack("{s:o}", "parameters", call.answer);
                if (answer && call.continues)
                        json_object_set_new(answer, "continues", json_true());
        }
        free(call.error);
        return answer;
}

static void client_unlink(struct client *c)
{
        *c->link = c->next;
        if (c->next)
                c->next->link = c->link;
}

static void client_link(struct client *c)
{
        c->next = c->api->clients;
        c->link = &c->api->clients;
        if (c->next)
                c->next->link = &c->next;
        c->api->clients = c;
}

static void client_free(struct client *c)
{
        monitor_remove(c->api->d, c);
        client_unlink(c);
        c->api->n_clients--;
        sd_event_source_unref(c->source);
        rpc_free(c->rpc);
        free(c);
}

/* To one that is about to be cut off, since what follows in its stream cannot be understood. */
static void say_why(struct client *c, int r)
{
        _cleanup_json_ json_t *answer =
            json_pack("{s:s, s:i}", "error",
                      r == -EBADMSG ? "a call is a JSON object and a NUL, with its descriptors "
                                      "beside the first byte"
                      : r == -E2BIG ? "the call is too long"
                                    : strerror(-r),
                      "errno", -r);

        (void)rpc_send(c->rpc, answer, NULL, 0);
}

static int client_read(struct client *c)
{
        _cleanup_json_ json_t *message = NULL, *answer = NULL;
        int fds[RPC_FDS_MAX], r;
        size_t n_fds = 0;

        r = rpc_receive(c->rpc, &message, fds, &n_fds);
        if (r < 0 && r != -ECONNRESET)
                say_why(c, r);
        if (r <= 0)
                return r;
        answer = run(c, message, fds, n_fds);
        for (size_t i = 0; i < n_fds; i++)
                safe_close(fds[i]);
        if (!answer)
                return -ENOMEM;
        return rpc_send(c->rpc, answer, NULL, 0);
}

/* What has to wait goes when the client can take it. */
static int wait_for(struct client *c)
{
        return sd_event_source_set_io_events(c->source,
                                             EPOLLIN | (rpc_pending(c->rpc) ? EPOLLOUT : 0));
}

int api_client_send(struct client *c, json_t *parameters)
{
        _cleanup_json_ json_t *answer =
            json_pack("{s:o, s:b}", "parameters", parameters, "continues", 1);
        int r;

        if (!answer)
                return -ENOMEM;
        r = rpc_send(c->rpc, answer, NULL, 0);
        return r < 0 ? r : wait_for(c);
}

size_t api_client_pending(const struct client *c)
{
        return rpc_pending(c->rpc);
}

static int on_client(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
        struct client *c = userdata;
        int r = 0;

        client_unlink(c);
        client_link(c);
        if (events & EPOLLOUT)
                r = rpc_flush(c->rpc);
        if (r >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                r = client_read(c);
        if (r >= 0 && rpc_pending(c->rpc) > PENDING_MAX)
                r = -ENOBUFS;
        if (r >= 0)
                r = wait_for(c);
        if (r < 0) {
                if (r != -ECONNRESET)
                        log_debug_errno(r, "a client was cut off: %m");
                client_free(c);
        }
        return 0;
}

static int client_new(struct api *api, int fd)
{
        struct client *c = new0(struct client, 1);
        int r;

        if (!c) {
                safe_close(fd);
                return -ENOMEM;
        }
        r = rpc_new(fd, &c->rpc);
        if (r < 0) {
                safe_close(fd);
                free(c);
                return r;
        }
        c->api = api;
        client_link(c);
        api->n_clients++;
        r = sd_event_add_io(api->d->event, &c->source, rpc_fd(c->rpc), EPOLLIN, on_client, c);
        if (r < 0)
                client_free(c);
        return r;
}

/* Who has been silent for longest, but for those who only listen. */
static struct client *most_silent(const struct api *api)
{
        struct client *found = NULL;

        for (struct client *c = api->clients; c; c = c->next)
                if (!monitor_has(api->d, c))
                        found = c;
        return found;
}

static int on_connection(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
        struct api *api = userdata;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;

        if (client < 0)
                return 0; /* it has gone again, or there is no room; the next one may fit */
        if (api->n_clients >= CLIENTS_MAX)
                client_free(most_silent(api));
        r = client_new(api, client);
        if (r < 0)
                log_warning_errno(r, "cannot take a client on: %m, ignoring");
        return 0;
}

/* 0: nobody answers at this path. */
static int somebody_listens(const struct sockaddr_un *addr)
{
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0;
}

int api_start(struct slimd *d)
{
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        struct api *api = new0(struct api, 1);
        mode_t mask;
        int r;

        if (!api)
                return log_error_errno(-ENOMEM, "cannot serve the API: %m");
        api->d = d;
        api->fd = -1;
        d->api = api;
        if (asprintf(&api->path, "%s/" RPC_SOCKET_NAME, d->opt.run_dir) < 0) {
                api->path = NULL;
                return log_error_errno(-ENOMEM, "cannot serve the API: %m");
        }
        if (strlen(api->path) >= sizeof(addr.sun_path)) {
                log_error("--run-dir \"%s\" is too long for a socket's path", d->opt.run_dir);
                return -ENAMETOOLONG;
        }
        strcpy(addr.sun_path, api->path);
        if (somebody_listens(&addr)) {
                log_error("another slimd serves %s: stop it, or give another --run-dir", api->path);
                return -EADDRINUSE;
        }
        if (unlink(api->path) < 0 && errno != ENOENT)
                return log_error_errno(-errno, "cannot replace %s: %m", api->path);
        api->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (api->fd < 0)
                return log_error_errno(-errno, "cannot make the API socket: %m");
        mask = umask(0177);
        r = bind(api->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
        umask(mask);
        if (r == 0 && listen(api->fd, 128) < 0)
                r = -errno;
        if (r == 0)
                r = sd_event_add_io(d->event, &api->source, api->fd, EPOLLIN, on_connection, api);
        return r < 0 ? log_error_errno(r, "cannot serve the API on %s: %m", api->path) : 0;
}

void api_stop(struct slimd *d)
{
        struct api *api = d->api;

        if (!api)
                return;
        while (api->clients)
                client_free(api->clients);
        sd_event_source_unref(api->source);
        if (api->fd >= 0)
                (void)unlink(api->path);
        safe_close(api->fd);
        free(api->path);
        free(api);
        d->api = NULL;
}
