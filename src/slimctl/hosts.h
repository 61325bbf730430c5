/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A container's own /etc/hosts: the machine's, and the container's name at its overlay addresses,
 * so that a program that looks its own host name up gets an answer at once.
 */

#include <jansson.h>

/* Mounts it over /etc/hosts in the caller's mount namespace. Nothing to do, and 0, without one, or
 * without addresses (an array of texts). */
int hosts_mount(const char *name, const json_t *addresses);
