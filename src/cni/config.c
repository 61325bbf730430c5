/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "../basic/name.h"
#include "environment.h"

static const char *const versions[] = {
    [CNI_0_3_0] = "0.3.0", [CNI_0_3_1] = "0.3.1", [CNI_0_4_0] = "0.4.0",
    [CNI_1_0_0] = "1.0.0", [CNI_1_1_0] = "1.1.0",
};
_Static_assert(ARRAY_SIZE(versions) == CNI_VERSION_MAX, "a version has no name");

const char *cni_version_name(enum cni_version v)
{
        return versions[v];
}

int cni_version_parse(const char *text, enum cni_version *ret)
{
        for (unsigned int v = 0; v < CNI_VERSION_MAX; v++)
                if (strcmp(text, versions[v]) == 0) {
                        *ret = (enum cni_version)v;
                        return 0;
                }
        return -EINVAL;
}

int cni_config_load(const char *text, size_t len, json_t **ret, struct cni_error *e)
{
        json_error_t problem;
        json_t *j = json_loadb(text, len, 0, &problem);

        if (!j)
                return cni_fail(e, CNI_ERROR_DECODE,
                                "the configuration is no JSON object: %s (line %d)", problem.text,
                                problem.line);
        if (!json_is_object(j)) {
                json_decref(j);
                return cni_fail(e, CNI_ERROR_DECODE, "the configuration is no JSON object");
        }
        *ret = j;
        return 0;
}

/* NULL stands for what is missing, or null. */
static int get(const json_t *j, const char *key, json_type type, const char *what, json_t **ret,
               struct cni_error *e)
{
        json_t *value = json_object_get(j, key);

        if (json_is_null(value))
                value = NULL;
        if (value && json_typeof(value) != type)
                return cni_fail(e, CNI_ERROR_CONFIG, "\"%s\" is not %s", key, what);
        *ret = value;
        return 0;
}

static int get_text(const json_t *j, const char *key, const char **ret, struct cni_error *e)
{
        json_t *value = NULL;
        int r = get(j, key, JSON_STRING, "a text", &value, e);

        *ret = json_string_value(value);
        return r;
}

static int get_bool(const json_t *j, const char *key, bool *ret, struct cni_error *e)
{
        const json_t *value = json_object_get(j, key);

        if (value && !json_is_null(value) && !json_is_boolean(value))
                return cni_fail(e, CNI_ERROR_CONFIG, "\"%s\" is neither true nor false", key);
        *ret = json_is_true(value);
        return 0;
}

static int parse_version(const json_t *j, enum cni_version *ret, struct cni_error *e)
{
        const char *text = NULL;
        int r = get_text(j, "cniVersion", &text, e);

        if (r < 0)
                return r;
        if (!text)
                return cni_fail(e, CNI_ERROR_VERSION, "\"cniVersion\" is missing");
        if (cni_version_parse(text, ret) < 0)
                return cni_fail(e, CNI_ERROR_VERSION,
                                "\"cniVersion\" \"%s\" is not one of those that slim-cni knows: "
                                "0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0",
                                text);
        return 0;
}

/* It goes into the result as it is, for runtimes that believe it. */
static int check_dns(const json_t *dns, struct cni_error *e)
{
        static const char *const lists[] = {"nameservers", "search", "options"};
        const char *domain;

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                json_t *list = NULL, *item;
                size_t k;
                int r = get(dns, lists[i], JSON_ARRAY, "a list of texts", &list, e);

                if (r < 0)
                        return r;
                json_array_foreach (list, k, item)
                        if (!json_is_string(item))
                                return cni_fail(e, CNI_ERROR_CONFIG,
                                                "\"%s\" is not a list of texts", lists[i]);
        }
        return get_text(dns, "domain", &domain, e);
}

static int check(const struct cni_config *c, struct cni_error *e)
{
        if (!c->name)
                return cni_fail(e, CNI_ERROR_CONFIG, "\"name\" is missing");
        if (!cni_id_is_valid(c->name))
                return cni_fail(e, CNI_ERROR_CONFIG, "\"name\" \"%s\" is not a network's name",
                                c->name);
        if (c->network && !name_is_valid(c->network))
                return cni_fail(
                    e, CNI_ERROR_CONFIG,
                    "\"network\" \"%s\" is not a name: 1 to %d characters of a-z 0-9 - .",
                    c->network, NAME_LEN_MAX);
        if (c->run_dir[0] != '/' || strlen(c->run_dir) >= PATH_MAX)
                return cni_fail(e, CNI_ERROR_CONFIG, "\"runDir\" \"%s\" is not an absolute path",
                                c->run_dir);
        return c->dns ? check_dns(c->dns, e) : 0;
}

int cni_config_parse(const json_t *j, struct cni_config *ret, struct cni_error *e)
{
        struct cni_config c = {};
        int r;

        r = parse_version(j, &c.version, e);
        if (r == 0)
                r = get_text(j, "name", &c.name, e);
        if (r == 0)
                r = get_text(j, "network", &c.network, e);
        if (r == 0)
                r = get_text(j, "runDir", &c.run_dir, e);
        if (r == 0)
                r = get_bool(j, "portsHeld", &c.ports_held, e);
        if (r == 0)
                r = get(j, "dns", JSON_OBJECT, "an object", &c.dns, e);
        if (r == 0)
                r = get(j, "runtimeConfig", JSON_OBJECT, "an object", &c.runtime, e);
        if (r == 0)
                r = get(j, "prevResult", JSON_OBJECT, "an object", &c.previous, e);
        if (r < 0)
                return r;
        c.run_dir = c.run_dir ?: "/run/slim";
        /* Its null is not none, but a list without elements (main.c). */
        c.valid = json_object_get(j, "cni.dev/valid-attachments");
        r = check(&c, e);
        if (r == 0)
                *ret = c;
        return r;
}
