/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Lists of processors, as people and the kernel write them: "0", "0-1", "0,3".
 */
#include <sched.h>

/* -EINVAL: not a list (an empty one is none). -ERANGE: a number past CPU_SETSIZE - 1. */
int cpus_parse(const char *text, cpu_set_t *ret);

/* The first processor of the set that is not online; -1: all are (or it cannot be told). */
int cpus_first_offline(const cpu_set_t *cpus);
