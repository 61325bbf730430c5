/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What an endpoint is called.
 */
#include "../basic/name.h"

/*
 * The name of a container's endpoint: what the container is called, with the interface's name
 * behind it unless that is eth0, since each of its interfaces is an endpoint. Characters that a
 * name cannot have are replaced; whatever is not the text itself, as it was or cut, ends in a hash
 * of the text, so that two containers do not meet in one name.
 */
void cni_endpoint_name(const char *container, const char *interface, char ret[NAME_LEN_MAX + 1]);
