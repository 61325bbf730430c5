/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The names of reasons and hooks (slim-abi.h), as counters, events and metrics show them.
 * docs/monitor.md says what each means.
 */
#include <stdbool.h>

#include "../abi/slim-abi.h"

/* "unknown" for a number that has no name. */
const char *reason_name(unsigned int reason);
const char *hook_name(unsigned int hook);

/* The reason of an event by its name. -ENOENT: there is none of that name, or it makes no event. */
int reason_from_name(const char *name, enum slim_reason *ret);

/* Does it make events? Or is it a counter alone? */
bool reason_is_event(enum slim_reason reason);
