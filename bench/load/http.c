/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET requests, at a fixed rate or as many as there can be. An answer counts when it is a 200 with
 * a page of the right length and, with --close, when the server has closed the connection after it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"
#include "verbs.h"

struct http {
        char request[256];
        size_t request_len;
        uint64_t size;
        bool close;
};

/* slot.kind: what the answer is at */
enum {
        HEAD,
        BODY,
        WHOLE, /* all but the end of the stream */
};

static const char *request(void *context, struct slot *s, uint64_t number, size_t *ret_len)
{
        const struct http *h = context;

        s->kind = HEAD;
        *ret_len = h->request_len;
        return h->request;
}

/* The head is whole in s->head: is it that of the page? */
static bool head_is_good(const struct http *h, const char *head)
{
        const char *length = strcasestr(head, "\r\ncontent-length:");

        return strncmp(head, "HTTP/1.1 200 ", strlen("HTTP/1.1 200 ")) == 0 && length &&
               strtoull(length + strlen("\r\ncontent-length:"), NULL, 10) == h->size;
}

/* Takes bytes of the head, up to and with its empty line. How many; -EBADMSG: no head of the page.
 */
static int take_head(const struct http *h, struct slot *s, const char *buf, size_t n)
{
        size_t before = s->head_len, room = SLOT_HEAD_MAX - 1 - before, taken = n < room ? n : room;
        const char *end;

        memcpy(s->head + before, buf, taken);
        s->head_len += taken;
        s->head[s->head_len] = '\0';
        end = strstr(s->head, "\r\n\r\n");
        if (!end)
                return taken == room ? -EBADMSG : (int)taken;
        if (!head_is_good(h, s->head))
                return -EBADMSG;
        s->kind = BODY;
        return (int)((size_t)(end + 4 - s->head) - before);
}

static int answer(void *context, struct slot *s, const char *buf, size_t n)
{
        const struct http *h = context;

        if (n == 0)
                return h->close && s->kind == WHOLE ? 1 : -ECONNRESET;
        if (s->kind == HEAD) {
                int taken = take_head(h, s, buf, n);

                if (taken < 0)
                        return taken;
                n -= (size_t)taken;
        }
        if (s->kind == HEAD)
                return 0;
        s->got += n;
        if (s->got > h->size)
                return -EBADMSG;
        if (s->got < h->size)
                return 0;
        s->kind = WHOLE;
        return h->close ? 0 : 1;
}

int run_http(const struct options *o)
{
        struct http h = {.size = o->size, .close = o->close};
        const struct protocol p = {
            .close = o->close, .request = request, .answer = answer, .context = &h};

        h.request_len = (size_t)snprintf(h.request, sizeof(h.request),
                                         "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n",
                                         o->path, o->address, o->close ? "close" : "keep-alive");
        return drive_and_print(o, &p, "http");
}
