/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The CNI_ variables, which say what is wanted and for which container.
 */
#include <stdbool.h>

#include "error.h"

#define CNI_ID_MAX 256 /* characters of a container's id, and of a configuration's name */

struct cni_environment {
        const char *container;
        const char *netns; /* NULL: not given, which DEL can do without */
        const char *interface;
        const char *args; /* NULL: none */
};

/* An id or a name as the specification has them: a letter or digit, then also _ . and -. */
bool cni_id_is_valid(const char *id);

/* Those of an operation on a container, out of the environment, which they stay in. */
int cni_environment_read(bool want_netns, struct cni_environment *ret, struct cni_error *e);

/* What CNI_ARGS has for us. */
struct cni_args {
        char *pod, *namespace; /* or NULL */
        char *addresses;       /* wanted ones, with commas between them, or NULL */
};

void cni_args_done(struct cni_args *a);
/* text: NULL for none. */
int cni_args_parse(const char *text, struct cni_args *ret, struct cni_error *e);
