/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The configuration of a CNI network, as a plugin gets it on standard input.
 *
 *     {"cniVersion": "1.1.0", "name": "pods", "type": "slim-cni", "network"?, "runDir"?,
 *      "portsHeld"?, "dns"?, "runtimeConfig"?: {"bandwidth"?, "portMappings"?, "ips"?},
 *      "prevResult"?, "cni.dev/valid-attachments"?}
 *
 * What is unknown is somebody else's, and ignored. What is known and of another type is refused.
 */
#include <jansson.h>
#include <stdbool.h>

#include "error.h"

#define CNI_CONFIG_MAX (4U << 20)

/* Versions of the specification, in their order. */
enum cni_version {
        CNI_0_3_0,
        CNI_0_3_1,
        CNI_0_4_0, /* CHECK */
        CNI_1_0_0, /* addresses without a version */
        CNI_1_1_0, /* GC, STATUS, MTUs in results */
        CNI_VERSION_MAX,
};

const char *cni_version_name(enum cni_version v);
/* -EINVAL: none that we know. */
int cni_version_parse(const char *text, enum cni_version *ret);

/* The texts and values are the object's. */
struct cni_config {
        enum cni_version version;
        const char *name;
        const char *network; /* or NULL */
        const char *run_dir;
        bool ports_held;                          /* by the runtime */
        json_t *dns, *runtime, *previous, *valid; /* or NULL */
};

/* Reads JSON, an object, from text. *ret: a new reference. */
int cni_config_load(const char *text, size_t len, json_t **ret, struct cni_error *e);
int cni_config_parse(const json_t *j, struct cni_config *ret, struct cni_error *e);

/*
 * Adds what "runtimeConfig" asks for to the parameters of Endpoint.Attach: limits, publish,
 * address, address6. NULL: nothing.
 */
int cni_runtime_parse(const json_t *runtime, json_t *parameters, struct cni_error *e);
/* Adds a wanted address, with or without the length of a prefix, to these parameters. -EINVAL: it
 * is none. -EEXIST: there is one of its family. */
int cni_address_add(json_t *parameters, const char *text);
