/* SPDX-License-Identifier: Apache-2.0 */
#include "result.h"

#include <string.h>

#include "../basic/inaddr.h"
#include "../shared/rpc.h"

static const struct {
        const char *address, *gateway, *version;
        unsigned int bits;
} families[SLIM_FAMILIES] = {
    [SLIM_V4] = {"address", "gateway", "4", 32},
    [SLIM_V6] = {"address6", "gateway6", "6", 128},
};

/* The container's is the second one, which ips refer to. */
static json_t *interfaces(const struct cni_config *c, const struct cni_environment *env,
                          const json_t *answer)
{
        const char *device, *device_mac, *mac;
        json_int_t mtu;
        json_t *list;

        if (json_unpack((json_t *)(uintptr_t)answer, "{s:{s:s}, s:s, s:s, s:I}", "endpoint",
                        "device", &device, "device_mac", &device_mac, "interface_mac", &mac, "mtu",
                        &mtu) < 0)
                return NULL;
        list = json_pack("[{s:s, s:s}, {s:s, s:s, s:s}]", "name", device, "mac", device_mac, "name",
                         env->interface, "mac", mac, "sandbox", env->netns);
        if (c->version >= CNI_1_1_0)
                for (size_t i = 0; i < json_array_size(list); i++)
                        json_object_set_new(json_array_get(list, i), "mtu", json_integer(mtu));
        return list;
}

static json_t *address(const struct cni_config *c, const json_t *answer, enum slim_family f)
{
        const char *text = json_string_value(
            json_object_get(json_object_get(answer, "endpoint"), families[f].address));
        json_t *ip;

        if (!text)
                return NULL;
        ip = json_pack("{s:o, s:O, s:i}", "address", json_sprintf("%s/%u", text, families[f].bits),
                       "gateway", json_object_get(answer, families[f].gateway), "interface", 1);
        if (c->version < CNI_1_0_0)
                json_object_set_new(ip, "version", json_string(families[f].version));
        return ip;
}

static json_t *route(const json_t *answer, const char *dst)
{
        enum slim_family f = strchr(dst, ':') ? SLIM_V6 : SLIM_V4;

        return json_pack("{s:s, s:O}", "dst", dst, "gw",
                         json_object_get(answer, families[f].gateway));
}

json_t *cni_result(const struct cni_config *c, const struct cni_environment *env,
                   const json_t *answer)
{
        json_t *list = interfaces(c, env, answer), *ips = json_array(), *routes = json_array();
        const json_t *item;
        size_t i;

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                json_t *ip = address(c, answer, (enum slim_family)f);

                if (ip)
                        json_array_append_new(ips, ip);
        }
        json_array_foreach (json_object_get(answer, "routes"), i, item)
                json_array_append_new(routes, route(answer, json_string_value(item) ?: ""));
        /* NULL when one of them is. */
        return json_pack("{s:s, s:o, s:o, s:o, s:o}", "cniVersion", cni_version_name(c->version),
                         "interfaces", list, "ips", ips, "routes", routes, "dns",
                         c->dns ? json_incref(c->dns) : json_object());
}
