/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the log broker and its clients say to each other, in the byte order of the one machine that
 * both are on. A message is a header and `length` bytes.
 *
 *     client                                 broker
 *     LOG_APPEND  a batch of records         LOG_OFFSET  u64: the log's end after it
 *     LOG_FETCH   u64: from which offset on  LOG_DATA    u64: the offset, and the bytes from there
 * on, at least one: the answer waits for it LOG_FETCH   LOG_END                    LOG_DATA    u64:
 * the log's end, and no bytes
 *
 * The last client that fetches is the consumer. What it has fetched is gone as soon as it asks for
 * more; without a consumer everything is.
 */
#include <stdint.h>

#define LOG_END         UINT64_MAX
#define LOG_MESSAGE_MAX (1U << 20)

enum log_kind {
        LOG_APPEND = 1,
        LOG_OFFSET,
        LOG_FETCH,
        LOG_DATA,
};

struct log_header {
        uint32_t length;
        uint32_t kind;
};
