/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The store as slimd uses it: opened, watched, and opened anew; this host's lease in it.
 */
#include "slimd.h"

/* Opens the store. make: also one that is not there yet; and sees to it that this host's name is
 * not another's, before anything is made on this host. Says in one line what is wrong. */
int cluster_open(struct slimd *d, bool make);
/* Names this host in the store, makes the cluster key if there is none, loads everything and makes
 * the maps equal to it. Says in one line what is wrong. */
int cluster_start(struct slimd *d);
/* Takes the host's name out of the store again (slimd --teardown). */
int cluster_leave(struct slimd *d);
void cluster_stop(struct slimd *d);

/* Brings the model and the maps up to the store's present state. */
int cluster_sync(struct slimd *d);

/* Notes, and says once, that the store does not answer; Status shows it. r: the negative errno. */
void cluster_store_failed(struct slimd *d, int r);
