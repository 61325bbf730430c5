/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Published ports of this host's containers.
 *
 * TCP of a Slim container: an entry of the map "published", which steer.bpf.c reads. All else, UDP
 * and a plain container's TCP: address translation by the kernel (nft), on the way that leads
 * through the container's veth.
 *
 * Either way each port is reserved by a socket that is bound to it and does nothing else, so that
 * no program of the host gets it too. The container's broker holds these sockets as well as slimd,
 * so that they outlast either.
 */
#include <stdio.h>

#include "slimd.h"

/* The sockets, in the order of the publications and their ports; -1: not there. */
struct reservation {
        int *fd;
        size_t n;
};

void reservation_done(struct reservation *r);

/* Room for an endpoint's sockets, all of them -1. */
int reservation_new(const struct endpoint *e, struct reservation *ret);
/*
 * Binds those that are -1. *ret_error: in a sentence, which port cannot be had and why.
 * -EADDRINUSE: it is taken; -EADDRNOTAVAIL: this host has no such address.
 */
int reservation_bind(const struct endpoint *e, struct reservation *r, char **ret_error);

/* Can an endpoint of this kind be published so, in this network? -EINVAL, -EADDRINUSE (of another
 * container here) and a sentence. */
int publish_check(const struct slimd *d, const struct endpoint *e, const struct network *n,
                  char **ret_error);

/* From here on connections come in, and from there on they do not. The container is among the
 * published ones (local_is_published()) before the one, and no more before the other. */
int publish_begin(struct slimd *d, const struct endpoint *e);
void publish_end(struct slimd *d, const struct endpoint *e);

/* Is it the key of a port that a container of this host publishes? For mirror_prune(). */
bool publish_keeps(const void *key, void *userdata);

/* The chains of the nft table of one family that carry out the translations. Are there any? */
bool publish_write_chains(const struct slimd *d, bool v6, FILE *f);
