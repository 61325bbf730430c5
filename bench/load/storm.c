/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and nothing else: the server says one byte and closes. */
#include <errno.h>

#include "drive.h"
#include "verbs.h"

static const char *request(void *context, struct slot *s, uint64_t number, size_t *ret_len)
{
        *ret_len = 0;
        return "";
}

static int answer(void *context, struct slot *s, const char *buf, size_t n)
{
        if (n == 0)
                return s->got == 1 ? 1 : -ECONNRESET;
        s->got += n;
        return s->got == 1 && buf[0] == '!' ? 0 : -EBADMSG;
}

int run_storm(const struct options *o)
{
        const struct protocol p = {.close = true, .request = request, .answer = answer};

        return drive_and_print(o, &p, "connections");
}
