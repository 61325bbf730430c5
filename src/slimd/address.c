/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"

/* How many addresses a prefix has, but no more than 32 bits of them are looked at. */
static uint32_t prefix_size(const struct inaddr_prefix *p)
{
        unsigned int host_bits = 128U - p->bits;

        return host_bits >= 32 ? UINT32_MAX : (uint32_t)1 << host_bits;
}

bool address_is_usable(const struct network *n, const union slim_addr *a)
{
        const struct inaddr_prefix *prefix = &n->prefix[inaddr_family(a)];
        uint32_t size = prefix_size(prefix);
        union slim_addr last = inaddr_prefix_nth(prefix, size - 1);

        if (!prefix->bits || !inaddr_prefix_contains(prefix, a))
                return false;
        /* RFC 3021: a /31 has neither; a /32 is one address. */
        if (size <= 2)
                return true;
        if (inaddr_equal(a, &prefix->addr))
                return false;
        return !inaddr_is_v4(a) || !inaddr_equal(a, &last);
}

static int pick_in(const struct slimd *d, const struct network *n,
                   const struct inaddr_prefix *block, union slim_addr *ret)
{
        uint32_t size = prefix_size(block);

        for (uint32_t i = 0; i < size; i++) {
                union slim_addr a = inaddr_prefix_nth(block, i);

                if (!address_is_usable(n, &a) || model_endpoint_by_addr(&d->model, n->id, &a))
                        continue;
                *ret = a;
                return 0;
        }
        return -ENOSPC;
}

/* 1: the block is ours (now); 0: another's. */
static int claim(struct slimd *d, const struct network *n, const struct inaddr_prefix *block)
{
        char prefix[INADDR_TEXT_MAX],
            key[sizeof(STORE_BLOCKS) + NAME_LEN_MAX + INADDR_TEXT_MAX + 1];
        _cleanup_free_ char *owner = NULL;
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key, .value = d->opt.host_name, .lease = d->lease};
        int r;

        snprintf(key, sizeof(key), STORE_BLOCKS "%s/%s", n->name,
                 inaddr_prefix_format(block, prefix));
        r = store_get(d->store, key, &owner, NULL);
        if (r == 0)
                return strcmp(owner, d->opt.host_name) == 0;
        if (r != -ENOENT)
                return r;
        r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
        if (r == -EAGAIN)
                return 0;
        return r < 0 ? r : 1;
}

int address_pick(struct slimd *d, const struct network *n, enum slim_family family,
                 union slim_addr *ret)
{
        struct inaddr_prefix block = {.bits = n->block_bits[family]};
        uint32_t block_size = prefix_size(&block), total = prefix_size(&n->prefix[family]);
        int r;

        for (uint64_t at = 0; at < total; at += block_size) {
                block.addr = inaddr_prefix_nth(&n->prefix[family], (uint32_t)at);
                if (pick_in(d, n, &block, ret) < 0)
                        continue; /* full */
                r = claim(d, n, &block);
                if (r < 0)
                        return r;
                if (r == 1)
                        return 0;
        }
        return -ENOSPC;
}

int address_pick_all(struct slimd *d, const struct network *n, union slim_addr addr[SLIM_FAMILIES])
{
        network_each_family(n, f)
        {
                int r;

                if (!inaddr_is_none(&addr[f]))
                        continue;
                r = address_pick(d, n, (enum slim_family)f, &addr[f]);
                if (r < 0)
                        return r;
        }
        return 0;
}
