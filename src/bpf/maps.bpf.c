/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where the maps of maps.h and the load-time constants have their one definition. */
#define SLIM_DEFINE_MAPS
#include "maps.h"

const volatile struct slim_config config = {};

char LICENSE[] SEC("license") = "Dual BSD/GPL";
