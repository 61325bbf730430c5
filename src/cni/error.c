/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/rpc.h"

void cni_error_done(struct cni_error *e)
{
        free(e->message);
        free(e->details);
        *e = (struct cni_error){};
}

static _printf_(4, 0) void set(struct cni_error *e, enum cni_code code, const char *details,
                               const char *format, va_list ap)
{
        if (e->code)
                return;
        e->code = code;
        if (vasprintf(&e->message, format, ap) < 0)
                e->message = NULL;
        e->details = details ? strdup(details) : NULL;
}

int cni_fail(struct cni_error *e, enum cni_code code, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        set(e, code, NULL, format, ap);
        va_end(ap);
        return -EINVAL;
}

int cni_fail_details(struct cni_error *e, enum cni_code code, const char *details,
                     const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        set(e, code, details, format, ap);
        va_end(ap);
        return -EINVAL;
}

/* What comes out of the environment need not be UTF-8, which JSON is. */
static json_t *text(const char *s)
{
        json_t *j = json_string(s);
        char *p, *copy;

        if (j)
                return j;
        copy = strdup(s);
        for (p = copy; p && *p; p++)
                if ((unsigned char)*p >= 0x80)
                        *p = '?';
        j = copy ? json_string(copy) : NULL;
        free(copy);
        return j;
}

void cni_error_write(const struct cni_error *e, const char *version, FILE *f)
{
        _cleanup_json_ json_t *j = json_object();

        json_object_set_new(j, "cniVersion", json_string(version));
        json_object_set_new(j, "code", json_integer(e->code));
        json_object_set_new(j, "msg", text(e->message ?: "out of memory"));
        if (e->details)
                json_object_set_new(j, "details", text(e->details));
        json_dumpf(j, f, JSON_INDENT(2));
        fputc('\n', f);
}
