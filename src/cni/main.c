/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slim-cni: a plugin of the Container Network Interface, by which a container runtime has its
 * containers' namespaces attached to Slim. What is wanted comes in variables and as JSON on
 * standard input; what came of it goes to standard output as JSON, and nothing else does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "config.h"
#include "operations.h"

static const struct {
        const char *name;
        enum cni_version since;
        int (*run)(const struct cni_config *c, struct cni_error *e);
} commands[] = {
    {"ADD", CNI_0_3_0, NULL},  {"DEL", CNI_0_3_0, cni_del},       {"CHECK", CNI_0_4_0, cni_check},
    {"GC", CNI_1_1_0, cni_gc}, {"STATUS", CNI_1_1_0, cni_status}, {"VERSION", CNI_0_3_0, NULL},
};

static int read_input(char **ret, size_t *ret_len, struct cni_error *e)
{
        _cleanup_free_ char *text = malloc(CNI_CONFIG_MAX + 1);
        size_t len = 0;

        if (!text)
                return cni_fail(e, CNI_ERROR_MEMORY, "out of memory");
        for (;;) {
                ssize_t n = read(STDIN_FILENO, text + len, CNI_CONFIG_MAX + 1 - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return cni_fail(e, CNI_ERROR_IO, "cannot read the configuration: %s",
                                        strerror(errno));
                if (n == 0)
                        break;
                len += (size_t)n;
                if (len > CNI_CONFIG_MAX)
                        return cni_fail(e, CNI_ERROR_DECODE,
                                        "the configuration is longer than %u bytes",
                                        CNI_CONFIG_MAX);
        }
        *ret = TAKE_PTR(text);
        *ret_len = len;
        return 0;
}

/* Whatever the runtime's version is, these are ours. */
static json_t *versions(const json_t *input)
{
        const char *theirs = json_string_value(json_object_get(input, "cniVersion"));
        json_t *list = json_array();

        for (unsigned int v = 0; v < CNI_VERSION_MAX; v++)
                json_array_append_new(list, json_string(cni_version_name((enum cni_version)v)));
        return json_pack("{s:s, s:o}", "cniVersion",
                         theirs ?: cni_version_name(CNI_VERSION_MAX - 1), "supportedVersions",
                         list);
}

/* Errors are written in the configuration's version, as soon as that is known. */
static const char *version_of(const json_t *input)
{
        const char *text = json_string_value(json_object_get(input, "cniVersion"));
        enum cni_version v = CNI_VERSION_MAX - 1;

        if (text)
                (void)cni_version_parse(text, &v);
        return cni_version_name(v);
}

static int run(size_t command, const json_t *input, json_t **ret, struct cni_error *e)
{
        struct cni_config config;
        int r;

        if (strcmp(commands[command].name, "VERSION") == 0) {
                *ret = versions(input);
                return 0;
        }
        r = cni_config_parse(input, &config, e);
        if (r < 0)
                return r;
        if (config.version < commands[command].since)
                return cni_fail(e, CNI_ERROR_VERSION,
                                "%s is not in version %s of CNI, only from %s on",
                                commands[command].name, cni_version_name(config.version),
                                cni_version_name(commands[command].since));
        return commands[command].run ? commands[command].run(&config, e) : cni_add(&config, ret, e);
}

static int find_command(size_t *ret, struct cni_error *e)
{
        const char *name = getenv("CNI_COMMAND");

        if (!name || !name[0])
                return cni_fail(e, CNI_ERROR_ENVIRONMENT,
                                "CNI_COMMAND is missing: slim-cni is run by container runtimes");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (strcmp(name, commands[i].name) == 0) {
                        *ret = i;
                        return 0;
                }
        return cni_fail(e, CNI_ERROR_ENVIRONMENT, "CNI_COMMAND \"%s\" is not known", name);
}

int main(void)
{
        _cleanup_(cni_error_done) struct cni_error e = {};
        _cleanup_json_ json_t *input = NULL, *result = NULL;
        _cleanup_free_ char *text = NULL;
        size_t len = 0, command = 0;
        int r;

        log_setup("slim-cni");
        r = find_command(&command, &e);
        if (r == 0)
                r = read_input(&text, &len, &e);
        if (r == 0)
                r = cni_config_load(text, len, &input, &e);
        if (r == 0)
                r = run(command, input, &result, &e);
        if (r < 0) {
                cni_error_write(&e, version_of(input), stdout);
        } else if (result) {
                json_dumpf(result, stdout, JSON_INDENT(2));
                putchar('\n');
        }
        return r < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
