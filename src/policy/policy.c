/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const direction_names[] = {
    [SLIM_POLICY_INGRESS] = "ingress",
    [SLIM_POLICY_EGRESS] = "egress",
};
_Static_assert(ARRAY_SIZE(direction_names) == SLIM_POLICY_DIRECTIONS, "a direction has no name");

const char *policy_direction_name(enum slim_policy_direction direction)
{
        return direction_names[direction];
}

const char *policy_protocol_name(uint8_t protocol)
{
        switch (protocol) {
        case IPPROTO_TCP:
                return "TCP";
        case IPPROTO_UDP:
                return "UDP";
        case IPPROTO_SCTP:
                return "SCTP";
        default:
                return NULL;
        }
}

bool policy_port_name_is_valid(const char *name)
{
        size_t len = strnlen(name, PORT_NAME_MAX + 1);
        bool letter = false;

        if (len == 0 || len > PORT_NAME_MAX || name[0] == '-' || name[len - 1] == '-' ||
            strstr(name, "--"))
                return false;
        for (size_t i = 0; i < len; i++) {
                bool is_letter = name[i] >= 'a' && name[i] <= 'z';

                if (!is_letter && !(name[i] >= '0' && name[i] <= '9') && name[i] != '-')
                        return false;
                letter |= is_letter;
        }
        return letter;
}

static void rules_clear(struct policy_rules *rules)
{
        for (size_t i = 0; i < rules->n; i++) {
                struct policy_rule *rule = &rules->v[i];

                for (size_t j = 0; j < rule->n_peers; j++) {
                        selector_clear(&rule->peers[j].namespaces);
                        selector_clear(&rule->peers[j].pods);
                        free(rule->peers[j].block.except);
                }
                free(rule->peers);
                free(rule->ports);
        }
        free(rules->v);
}

void policy_free(struct policy *p)
{
        selector_clear(&p->pods);
        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                rules_clear(&p->rules[d]);
        free(p);
}

size_t policy_port_prefixes(uint16_t first, uint16_t last,
                            struct port_prefix ret[PORT_PREFIXES_MAX])
{
        uint32_t at = first;
        size_t n = 0;

        while (at <= last) {
                unsigned int free_bits = 0;

                /* The largest block that begins here and does not pass the end. */
                while (free_bits < 16 && !(at & (1U << free_bits)) &&
                       at + (2U << free_bits) - 1 <= last)
                        free_bits++;
                ret[n++] = (struct port_prefix){(uint16_t)at, (uint8_t)(16 - free_bits)};
                at += 1U << free_bits;
        }
        return n;
}

static size_t expanded_ports(const struct policy_rule *rule)
{
        struct port_prefix prefixes[PORT_PREFIXES_MAX];
        size_t n = 0;

        for (size_t i = 0; i < rule->n_ports; i++) {
                const struct policy_port *port = &rule->ports[i];

                n += port->first ? policy_port_prefixes(port->first, port->last, prefixes) : 1;
        }
        return n ? n : 1;
}

static size_t expanded_peers(const struct policy_rule *rule)
{
        size_t n = 0;

        for (size_t i = 0; i < rule->n_peers; i++)
                n += 1 + rule->peers[i].block.n_except;
        return n ? n : 1;
}

size_t policy_expanded(const struct policy *p)
{
        size_t n = 0;

        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                for (size_t i = 0; i < p->rules[d].n; i++)
                        n += expanded_peers(&p->rules[d].v[i]) * expanded_ports(&p->rules[d].v[i]);
        return n;
}

/* A v4 prefix has at least the 96 bits that make it one. */
static bool is_v4(const struct inaddr_prefix *p)
{
        return p->bits >= 96 && inaddr_is_v4(&p->addr);
}

bool policy_prefix_contains(const struct inaddr_prefix *outer, const struct inaddr_prefix *inner)
{
        return is_v4(outer) == is_v4(inner) && outer->bits <= inner->bits &&
               inaddr_prefix_contains(outer, &inner->addr);
}

bool policy_block_contains(const struct policy_block *b, const struct inaddr_prefix *p)
{
        if (!policy_prefix_contains(&b->cidr, p))
                return false;
        for (size_t i = 0; i < b->n_except; i++)
                if (policy_prefix_contains(&b->except[i], p))
                        return false;
        return true;
}

bool policy_pods_match(const struct selector *pods, const struct labels *l, bool is_host)
{
        return selector_requires(pods, LABEL_KIND, LABEL_KIND_HOST) == is_host &&
               selector_matches(pods, l);
}

const char *policy_error_format(const struct policy_error *e, const char *file, char *buf,
                                size_t size)
{
        if (e->line)
                snprintf(buf, size, "%s:%lu:%lu: %s", file, e->line, e->column, e->text);
        else if (*e->path)
                snprintf(buf, size, "%s: %s", e->path, e->text);
        else
                snprintf(buf, size, "%s", e->text);
        return buf;
}

const char *policy_quote(const char *text, size_t len, char buf[POLICY_QUOTE_MAX])
{
        size_t n = 0, shown = len > 64 ? 64 : len;

        /* Not in the middle of a character. */
        while (shown < len && shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80)
                shown--;
        buf[n++] = '"';
        for (size_t i = 0; i < shown; i++) {
                unsigned char c = (unsigned char)text[i];

                buf[n++] = c < 0x20 || c == 0x7f ? '?' : text[i];
        }
        strcpy(&buf[n], shown < len ? "…\"" : "\"");
        return buf;
}
