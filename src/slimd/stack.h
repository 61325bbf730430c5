/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The host's own network stack as a part of the overlays.
 *
 * A host is an endpoint of every network of more than one block: its overlay addresses are on the
 * VXLAN device, and what its processes send to the overlay goes there, where a program
 * (encap.bpf.c) gives it the tunnel's key. The packets of swapped sockets that talk to plain
 * containers go the same way. What arrives for either is marked by the programs, and a rule has the
 * stack take it for its own.
 */
#include "slimd.h"

/* Puts what is published into the store again, on the present lease. */
int stack_republish(struct slimd *d);

/* Numbers that are unlikely to be another's. A rule's priority is that of its table. */
#define TABLE_MARKED  0x511e /* what the programs have marked: all of it is local */
#define TABLE_OVERLAY 0x511f /* what the host itself sends: overlays, and the containers here */

/* Rules, and the table of what is marked. Says what is wrong. */
int stack_up(struct slimd *d);
/* As far as it is there. */
void stack_down(struct slimd *d);

/*
 * Publishes this host's endpoint in each such network that has none yet, withdraws those of
 * networks that are gone. 1: something was written, so there are changes to read; 0: all is as it
 * should be. What fails is said once, and tried again the next time.
 */
int stack_publish(struct slimd *d);

/* The way to a network, for what the host itself sends. */
int stack_network_up(struct slimd *d, const struct network *n);
void stack_network_down(struct slimd *d, const struct network *n);

/* This host's own address of a family in a network, or NULL. The model's. */
const union slim_addr *stack_source(const struct slimd *d, const char *network,
                                    enum slim_family family);

/* This host's endpoint in a network has come into, or goes from, the model. */
int stack_endpoint_up(struct slimd *d, const struct endpoint *e);
void stack_endpoint_down(struct slimd *d, const struct endpoint *e);
