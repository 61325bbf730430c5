/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * May a flow be? What policies say of one direction of it (docs/policy.md).
 */
#include "maps.h"

/* policy.bpf.c has it. A function of its own for the verifier, which looks at it once. */
extern int slim_policy_verdict(const struct slim_policy_check *check);

/*
 * The verdict (enum slim_policy_verdict) on a flow, for the subject's direction. Without a policy
 * it is the one lookup here. All of *check is to be set; it has to be on the caller's stack or in
 * other memory, and not a packet.
 */
static __always_inline int policy_verdict(const struct slim_policy_check *check)
{
        __u32 subject = check->subject;

        if (!subject || !bpf_map_lookup_elem(&policy_subjects, &subject))
                return SLIM_POLICY_ALLOWED;
        return slim_policy_verdict(check);
}
