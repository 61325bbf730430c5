/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Policies out of YAML files: several documents in one, each a policy; empty ones are skipped.
 *
 * YAML becomes JSON as Kubernetes' tools do it (sigs.k8s.io/yaml: YAML 1.1), so that "port: 80" is
 * a number and "app: yes" no text. Refused altogether: anchors, aliases and tags, which is what
 * YAML bombs are made of; a key given twice; numbers that YAML 1.1 and 1.2 read differently; and
 * what is past one of the bounds.
 */
#include <jansson.h>
#include <stddef.h>

#include "policy.h"

#define POLICY_FILE_MAX     (4U << 20) /* bytes */
#define POLICY_DEPTH_MAX    32         /* lists and objects in one another */
#define POLICY_NODES_MAX    (1U << 20) /* values in a file, which bounds the memory */
#define POLICY_POLICIES_MAX 10000      /* in a file */

/* The documents of a text as JSON, with the places of all that is in them. */
struct yaml_documents {
        size_t n;
        json_t **v;
        struct yaml_position *positions;
        size_t n_positions;
};

void yaml_documents_free(struct yaml_documents *docs);
DEFINE_CLEANUP(struct yaml_documents *, yaml_documents_free)

/* -EINVAL and *ret_error, with its line and column; -ENOMEM. The caller frees *ret. */
int yaml_documents_parse(const char *text, size_t len, struct yaml_documents **ret,
                         struct policy_error *ret_error);
/* Gives an error that policy_from_json() had of the nth document its line and column. */
void yaml_documents_locate(const struct yaml_documents *docs, size_t n, struct policy_error *error);

/* A file's policies: no two have the same name in one network. */
struct policy_list {
        size_t n;
        struct policy **v;
};

void policy_list_clear(struct policy_list *list);
DEFINE_CLEANUP(struct policy_list *, policy_list_clear)

/* As yaml_documents_parse(). The caller clears *ret. */
int policy_list_from_yaml(const char *text, size_t len, struct policy_list *ret,
                          struct policy_error *ret_error);
