/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of TCP options against a plain one: at most TCP_OPTIONS_MAX bytes, which are the whole
 * options area. What lies behind the used part must not matter, and what is found is all within it.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined. Otherwise replay.c.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/reference.h"
#include "basic/alloc.h"
#include "bpf/option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "fuzz-option: %s\n", what);
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        /* On the heap, at its own size: the sanitizer sees a byte too far. */
        _cleanup_free_ uint8_t *buf = malloc(TCP_OPTIONS_MAX);
        int found;

        if (size > TCP_OPTIONS_MAX)
                return 0;
        check(buf != NULL, "no memory");
        memset(buf, 0, TCP_OPTIONS_MAX);
        if (size > 0)
                memcpy(buf, data, size);
        found = slim_option_find(buf, (unsigned int)size);
        check(found == reference_find(data, size), "another answer than the plain parser's");
        memset(buf + size, SLIM_OPTION_KIND, TCP_OPTIONS_MAX - size);
        check(slim_option_find(buf, (unsigned int)size) == found, "what is behind the end matters");
        if (found >= 0) {
                check((size_t)found + SLIM_OPTION_LEN <= size, "an option that is not all there");
                check(buf[found] == SLIM_OPTION_KIND && buf[found + 1] == SLIM_OPTION_LEN,
                      "an option that is none");
        }
        return 0;
}
