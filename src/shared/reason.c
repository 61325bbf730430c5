/* SPDX-License-Identifier: Apache-2.0 */
#include "reason.h"

#include <errno.h>
#include <string.h>

#include "../basic/macro.h"

static const char *const reason_names[] = {
#define REASON_NAME(name, text) [SLIM_REASON_##name] = text,
    SLIM_REASONS(REASON_NAME)
#undef REASON_NAME
};
_Static_assert(ARRAY_SIZE(reason_names) == SLIM_REASON_MAX, "a reason has no name");

static const char *const hook_names[] = {
#define HOOK_NAME(name, text) [SLIM_HOOK_##name] = text,
    SLIM_HOOKS(HOOK_NAME)
#undef HOOK_NAME
};
_Static_assert(ARRAY_SIZE(hook_names) == SLIM_HOOK_MAX, "a hook has no name");

const char *reason_name(unsigned int reason)
{
        return reason < SLIM_REASON_MAX ? reason_names[reason] : "unknown";
}

const char *hook_name(unsigned int hook)
{
        return hook < SLIM_HOOK_MAX ? hook_names[hook] : "unknown";
}

bool reason_is_event(enum slim_reason reason)
{
        return reason != SLIM_REASON_NONE && reason != SLIM_REASON_SYN_ACCEPTED &&
               reason != SLIM_REASON_EVENT_LOST;
}

int reason_from_name(const char *name, enum slim_reason *ret)
{
        for (unsigned int i = 0; i < SLIM_REASON_MAX; i++)
                if (reason_is_event((enum slim_reason)i) && strcmp(reason_names[i], name) == 0) {
                        *ret = (enum slim_reason)i;
                        return 0;
                }
        return -ENOENT;
}
