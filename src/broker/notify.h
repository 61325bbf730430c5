/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The notification loop: one container's calls that shared/filter.h names, and their answers
 * (seccomp_unotify(2)).
 */
#include "pool.h"

/*
 * Answers notifications until the last process of the container is gone: then 0. Every one is
 * answered, also when no socket can be made, and first the one that an earlier loop, which was
 * killed, left in the memory for the call in hand (see broker-fds.h). A negative errno when
 * notify_fd itself fails.
 */
int notify_loop(int notify_fd, int netns_fd, void *memory, int ports_map, struct pool *pool);
