/* SPDX-License-Identifier: Apache-2.0 */
/* Many connections that stay, each with one byte on its way there and back all the time. */
#include <errno.h>

#include "drive.h"
#include "verbs.h"

static const char *request(void *context, struct slot *s, uint64_t number, size_t *ret_len)
{
        s->kind = 'a' + number % 26;
        s->head[0] = (char)s->kind;
        *ret_len = 1;
        return s->head;
}

static int answer(void *context, struct slot *s, const char *buf, size_t n)
{
        if (n == 0)
                return -ECONNRESET;
        return n == 1 && (uint64_t)buf[0] == s->kind ? 1 : -EBADMSG;
}

int run_crowd(const struct options *o)
{
        const struct protocol p = {.request = request, .answer = answer};

        return drive_and_print(o, &p, "round trips of a crowd");
}
