/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * nft(8) as a program: its library is GPL-2.0-only, which this project's licence does not go with.
 */

/*
 * Runs `nft -f -` on these commands, which are one transaction. -ENOENT: no nft in the PATH. -EIO:
 * it refused; what it said is in the debug log.
 */
int nft_run(const char *commands);
