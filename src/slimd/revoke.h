/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What policies do not allow any more ends: the swapped sockets of this host whose connection the
 * kernel's own verdict denies now, and those of containers that are gone. Everything else is not
 * touched. The other host does the same for its end.
 *
 * New connections are the programs' affair (connect.bpf.c, ingress.bpf.c), and packets of the
 * encapsulated path are, one by one (flow.h).
 */
#include "slimd.h"

int revoke_start(struct slimd *d);
void revoke_stop(struct slimd *d);

/*
 * Looks at all connections soon, from the event loop, and once more a little later: one that was on
 * its way when the maps changed was judged by what they were, and cannot be seen before it is
 * there.
 */
void revoke_soon(struct slimd *d);
