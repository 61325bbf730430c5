/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcached's text protocol: one set, ten gets, and so on, of keys that are all there from the
 * beginning. A value follows from its key, so that each answer is known to the last byte before it
 * comes: nothing else counts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "drive.h"
#include "net.h"
#include "verbs.h"

#define KEYS      10000U
#define VALUE_MAX 4096U
#define LINE_MAX_ 64U

/* slot.own */
struct exchange {
        size_t answer_len;
        char request[VALUE_MAX + LINE_MAX_];
        char answer[VALUE_MAX + LINE_MAX_];
};

/* Appends the value of a key and the end of its line. Returns what is behind it. */
static char *put_value(char *at, unsigned int key, size_t size)
{
        memset(at, 'a' + (int)(key % 26), size);
        memcpy(at + size, "\r\n", 2);
        return at + size + 2;
}

static size_t make_set(char *buf, unsigned int key, size_t size, const char *more)
{
        char *at = buf + sprintf(buf, "set key-%05u 0 0 %zu%s\r\n", key, size, more);

        return (size_t)(put_value(at, key, size) - buf);
}

static const char *request(void *context, struct slot *s, uint64_t number, size_t *ret_len)
{
        const struct options *o = context;
        unsigned int key = (unsigned int)((number * 2654435761U) % KEYS);
        struct exchange *e = s->own;
        char *at;

        if (number % 11 == 0) {
                e->answer_len = (size_t)sprintf(e->answer, "STORED\r\n");
                *ret_len = make_set(e->request, key, o->size, "");
        } else {
                at = e->answer +
                     sprintf(e->answer, "VALUE key-%05u 0 %zu\r\n", key, (size_t)o->size);
                at = put_value(at, key, o->size);
                e->answer_len = (size_t)(at + sprintf(at, "END\r\n") - e->answer);
                *ret_len = (size_t)sprintf(e->request, "get key-%05u\r\n", key);
        }
        return e->request;
}

static int answer(void *context, struct slot *s, const char *buf, size_t n)
{
        const struct exchange *e = s->own;

        if (n == 0)
                return -ECONNRESET;
        if (n > e->answer_len - s->got || memcmp(e->answer + s->got, buf, n) != 0)
                return -EBADMSG;
        s->got += n;
        return s->got == e->answer_len;
}

/* Sets all keys; the last one is answered, hence comes after all others. */
static int fill(const struct options *o)
{
        char buf[VALUE_MAX + LINE_MAX_], stored[8];
        _cleanup_close_ int fd = -1;
        int r = net_connect(o->address, o->port, 0, &fd);

        for (unsigned int key = 0; key < KEYS && r >= 0; key++) {
                size_t len = make_set(buf, key, o->size, key + 1 < KEYS ? " noreply" : "");

                r = net_send(fd, buf, len);
        }
        if (r >= 0)
                r = net_receive(fd, stored, sizeof(stored));
        if (r >= 0 && memcmp(stored, "STORED\r\n", sizeof(stored)) != 0)
                r = -EBADMSG;
        return r;
}

int run_cache(const struct options *o)
{
        struct options context = *o;
        const struct protocol p = {.own_size = sizeof(struct exchange),
                                   .request = request,
                                   .answer = answer,
                                   .context = &context};
        int r;

        if (o->size > VALUE_MAX)
                return log_error_errno(-EINVAL, "--size: at most %u", VALUE_MAX);
        r = fill(o);
        if (r < 0)
                return log_error_errno(r, "cannot set the keys: %m");
        return drive_and_print(o, &p, "memcached");
}
