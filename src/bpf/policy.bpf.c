/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict of the policies that are compiled into three maps by src/policy/policy-compile.c.
 *
 * Subjects say whether any policy selects an identity in a direction; if none does, all is
 * allowed. Rules are in one longest-prefix map, whose every entry allows: for the peer's identity,
 * for anybody, and for the longest prefix that its address has in the map of prefixes. That is two
 * or three lookups of rules, and one of prefixes if the subject has rules of addresses at all. What
 * none of them has is denied.
 *
 * slim_policy_check asks the same question for user space, by BPF_PROG_TEST_RUN: the packet is a
 * struct slim_policy_check, what the program returns is the verdict. It is a program of tc that is
 * never attached, and not one of type syscall: those are sleepable, and sleepable programs have no
 * longest-prefix maps in Linux 6.1.
 */
#include <bpf/bpf_endian.h>

#include "policy.h"

static __always_inline bool has_rule(const struct slim_policy_check *c, __u32 peer)
{
        struct slim_policy_key key = {
            .prefixlen = SLIM_POLICY_BITS_PORT,
            .subject = c->subject,
            .peer = peer,
            .direction = c->direction,
            .protocol = c->protocol,
            .be_port = bpf_htons(c->port),
        };

        return bpf_map_lookup_elem(&policy_rules, &key) != 0;
}

static __always_inline bool has_rule_of_addr(const struct slim_policy_check *c)
{
        struct slim_prefix_key key = {.prefixlen = 128, .addr = c->addr};
        __u32 *id = bpf_map_lookup_elem(&policy_cidrs, &key);

        return id && has_rule(c, SLIM_POLICY_CIDR | *id);
}

__weak __noinline int slim_policy_verdict(const struct slim_policy_check *check)
{
        struct slim_policy_subject *subject;
        __u32 identity, flags;

        if (!check)
                return SLIM_POLICY_DROP;
        identity = check->subject;
        if (!identity)
                return SLIM_POLICY_ALLOWED;
        subject = bpf_map_lookup_elem(&policy_subjects, &identity);
        if (!subject)
                return SLIM_POLICY_ALLOWED;
        flags = subject->flags >> (check->direction & 1);
        if (!(flags & SLIM_POLICY_SELECTED))
                return SLIM_POLICY_ALLOWED;
        if ((check->peer && has_rule(check, check->peer)) || has_rule(check, 0) ||
            ((flags & SLIM_POLICY_CIDRS) && has_rule_of_addr(check)))
                return SLIM_POLICY_ALLOWED;
        return flags & SLIM_POLICY_REJECTS ? SLIM_POLICY_REJECT : SLIM_POLICY_DROP;
}

SEC("tc")
int slim_policy_check(struct __sk_buff *skb)
{
        struct slim_policy_check check = {};

        if (bpf_skb_load_bytes(skb, 0, &check, sizeof(check)) < 0)
                return SLIM_POLICY_REJECT; /* no question */
        return policy_verdict(&check);
}
