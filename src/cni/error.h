/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What went wrong, as the CNI specification has it told: a code, what it is about, and details.
 */
#include <stdio.h>

#include "../basic/macro.h"

enum cni_code {
        /* The specification's own. */
        CNI_ERROR_VERSION = 1,      /* incompatible CNI version */
        CNI_ERROR_CONTAINER = 3,    /* unknown container: there is nothing to clean up */
        CNI_ERROR_ENVIRONMENT = 4,  /* a CNI_ variable */
        CNI_ERROR_IO = 5,           /* of standard input or output */
        CNI_ERROR_DECODE = 6,       /* no JSON */
        CNI_ERROR_CONFIG = 7,       /* JSON, but no configuration for this plugin */
        CNI_ERROR_AGAIN = 11,       /* may be better later: slimd is away */
        CNI_ERROR_UNAVAILABLE = 50, /* of STATUS: no ADD now */
        CNI_ERROR_LIMITED = 51,     /* …, and containers may miss something */
        /* Ours. */
        CNI_ERROR_REFUSED = 100, /* slimd said no */
        CNI_ERROR_CHECK = 101,   /* CHECK found something that is not as it was made */
        CNI_ERROR_MEMORY = 102,
};

struct cni_error {
        enum cni_code code;
        char *message; /* NULL: there was no memory for it */
        char *details; /* or NULL */
};

void cni_error_done(struct cni_error *e);

/* Sets what went wrong, unless something did before. -EINVAL, so that it can be returned. */
int cni_fail(struct cni_error *e, enum cni_code code, const char *format, ...) _printf_(3, 4);
/* The same with details, which are copied; NULL: none. */
int cni_fail_details(struct cni_error *e, enum cni_code code, const char *details,
                     const char *format, ...) _printf_(4, 5);

/* Writes it as the specification's JSON object. version: that of the configuration. */
void cni_error_write(const struct cni_error *e, const char *version, FILE *f);
