/* SPDX-License-Identifier: Apache-2.0 */
/* RUN_DIR/endpoints/ID: the endpoint as the store has it, and what only its own host knows. */
#include "local-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/rpc.h"

static void state_path(const struct local *l, char ret[PATH_MAX])
{
        snprintf(ret, PATH_MAX, "%s/endpoints/%u", l->d->opt.run_dir, l->id);
}

static char *state_to_json(const struct local *l)
{
        _cleanup_free_ char *endpoint = endpoint_to_json(&l->e);
        _cleanup_json_ json_t *state = endpoint ? json_loads(endpoint, 0, NULL) : NULL;

        if (!state || !l->attachment)
                return TAKE_PTR(endpoint);
        if (json_object_set_new(state, "attachment", json_string(l->attachment)) < 0 ||
            json_object_set_new(state, "netns", json_string(l->netns)) < 0 ||
            json_object_set_new(state, "interface", json_string(l->interface)) < 0 ||
            json_object_set_new(state, "ports_held", json_boolean(l->ports_held)) < 0)
                return NULL;
        return json_dumps(state, JSON_COMPACT);
}

/* Written under another name and renamed: whole, or not there. */
int local_state_save(const struct local *l)
{
        _cleanup_free_ char *text = state_to_json(l);
        _cleanup_close_ int fd = -1;
        char path[PATH_MAX], temporary[PATH_MAX + 8];
        int r;

        if (!text)
                return -ENOMEM;
        state_path(l, path);
        snprintf(temporary, sizeof(temporary), "%s.new", path);
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_full(fd, text, strlen(text));
        if (r < 0)
                return r;
        return rename(temporary, path) < 0 ? -errno : 0;
}

int local_state_attachment(struct local *l, const char *text)
{
        _cleanup_json_ json_t *state = json_loads(text, 0, NULL);
        const char *id = NULL, *netns = NULL, *interface = "eth0";
        struct local_attachment attachment;
        int held = false;

        if (!state || json_unpack(state, "{s?s, s?s, s?s, s?b}", "attachment", &id, "netns", &netns,
                                  "interface", &interface, "ports_held", &held) < 0)
                return -EBADMSG;
        if (!id != !netns || strlen(interface) >= sizeof(l->interface))
                return -EBADMSG;
        l->ports_held = held;
        attachment = (struct local_attachment){.id = id, .netns = netns};
        return local_set_bond(l, id ? &attachment : NULL, interface);
}

void local_state_remove(const struct slimd *d, uint32_t id)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/endpoints/%u", d->opt.run_dir, id);
        if (unlink(path) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "cannot remove %s: %m, ignoring", path);
}
