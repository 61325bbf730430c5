/* SPDX-License-Identifier: Apache-2.0 */
/* Without libFuzzer: a target with the files that it is given. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "basic/alloc.h"
#include "basic/fd.h"

#define INPUT_MAX (32U << 20) /* more than the longest that a target takes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++) {
                _cleanup_free_ char *data = NULL;
                size_t len;
                int r;

                r = read_file_at(AT_FDCWD, argv[i], INPUT_MAX, &data, &len);
                if (r < 0) {
                        fprintf(stderr, "%s: cannot read %s: %s\n", argv[0], argv[i], strerror(-r));
                        return 1;
                }
                LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        }
        printf("%d inputs replayed\n", argc - 1);
        return 0;
}
