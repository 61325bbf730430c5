/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container runtime gives to slim-cni: CNI_ARGS in the first line, the configuration behind
 * it. Whatever is taken, goes on: names are names, and a result comes of the runtime's part of it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cni/config.h"
#include "cni/environment.h"
#include "cni/name.h"
#include "cni/result.h"
#include "shared/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
        if (!ok)
                abort();
}

/* One that fails says why, and only one that fails. */
static void check_error(int r, struct cni_error *e)
{
        check((r < 0) == (e->code != 0));
        if (r < 0)
                check(e->message);
        cni_error_done(e);
}

static void fuzz_args(const char *text)
{
        _cleanup_(cni_args_done) struct cni_args args = {};
        struct cni_error e = {};
        char name[NAME_LEN_MAX + 1];
        int r = cni_args_parse(text, &args, &e);

        check_error(r, &e);
        cni_endpoint_name(args.pod ?: text, "eth0", name);
        check(name_is_valid(name));
        cni_endpoint_name("c", text, name);
        check(name_is_valid(name));
}

static void fuzz_config(const char *text, size_t len)
{
        _cleanup_json_ json_t *j = NULL, *parameters = json_object(), *result = NULL;
        struct cni_environment env = {.interface = "eth0", .netns = "/n"};
        struct cni_error e = {};
        struct cni_config c;
        int r = cni_config_load(text, len, &j, &e);

        check_error(r, &e);
        if (r < 0)
                return;
        r = cni_config_parse(j, &c, &e);
        check_error(r, &e);
        if (r < 0)
                return;
        check(cni_id_is_valid(c.name));
        r = cni_runtime_parse(c.runtime, parameters, &e);
        check_error(r, &e);
        /* As if that were slimd's answer. */
        result = cni_result(&c, &env, j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *end = memchr(data, '\n', size);
        size_t len = end ? (size_t)(end - data) : 0;
        char *args = strndup((const char *)data, len);

        check(args);
        fuzz_args(args);
        free(args);
        if (end)
                fuzz_config((const char *)end + 1, size - len - 1);
        return 0;
}
