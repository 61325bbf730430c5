/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The published ports of the container, at its end.
 *
 * A broker that ends gives its reservations up. So that what another program then does with such a
 * port is not the container's any more, also while no slimd is there to see to it, the broker takes
 * its entries out of the map "published" first.
 */
#include <stdint.h>

/* For n sockets from first_fd on: deletes those entries of the map that are the endpoint's. */
void reserved_end(int map_fd, int first_fd, unsigned int n, uint32_t endpoint);
