/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Figures for Prometheus: GET /metrics, by HTTP, in its text format (version 0.0.4). Served in
 * slimd's own loop; a few connections at a time, each cut off when it is silent. docs/monitor.md
 * lists the metrics.
 */
#include "slimd.h"

/* Listens on opt.metrics, if there is one. Says what is wrong. */
int metrics_start(struct slimd *d);
void metrics_stop(struct slimd *d);

/* The text itself (metrics-text.c). The caller frees *ret. */
int metrics_text(const struct slimd *d, char **ret, size_t *ret_len);
