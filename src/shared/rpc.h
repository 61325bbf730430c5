/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * slimd's API: JSON objects on a Unix stream socket, each ended by a NUL byte (the framing of
 * Varlink), with file descriptors beside a message's first byte (SCM_RIGHTS).
 *
 *     call    {"method": "Endpoint.Add", "parameters": {…}}
 *     answer  {"parameters": {…}}  or  {"error": "one sentence for a person", "errno": 17}
 *
 * Calls on one connection are answered in their order. docs/api.md lists the methods.
 */
#include <jansson.h>
#include <stddef.h>

#include "../basic/macro.h"

#define RPC_MESSAGE_MAX (16U << 20)
#define RPC_FDS_MAX     4
#define RPC_SOCKET_NAME "slimd.sock" /* below the run directory */

struct rpc;

static inline void json_decrefp(json_t **j)
{
        json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_decrefp)

/* Wraps a connected, blocking or non-blocking, stream socket, which it then owns. */
int rpc_new(int fd, struct rpc **ret);
/* Connects to RUN_DIR/slimd.sock. -ENOENT or -ECONNREFUSED: no slimd there. */
int rpc_connect(const char *run_dir, struct rpc **ret);
void rpc_free(struct rpc *rpc);
DEFINE_CLEANUP(struct rpc *, rpc_free)
int rpc_fd(const struct rpc *rpc);

/*
 * Sends one message. The descriptors stay the caller's. On a non-blocking socket what the peer does
 * not take now is kept; rpc_flush() sends on, and rpc_pending() says how many bytes are left.
 */
int rpc_send(struct rpc *rpc, const json_t *message, const int *fds, size_t n_fds);
int rpc_flush(struct rpc *rpc);
size_t rpc_pending(const struct rpc *rpc);

/*
 * The next whole message: 1 and *ret (a new reference), 0 when there is none yet (non-blocking),
 * -ECONNRESET at the end of the stream, -EBADMSG for what is not JSON, -E2BIG past RPC_MESSAGE_MAX.
 * Its descriptors (at most RPC_FDS_MAX, close-on-exec, the caller's) go to fds and *ret_n_fds;
 * those that a caller does not ask for (fds NULL) are closed.
 */
int rpc_receive(struct rpc *rpc, json_t **ret, int fds[RPC_FDS_MAX], size_t *ret_n_fds);

/*
 * One call and its answer, for clients. parameters may be NULL and is not consumed. On an error
 * answer: its negative errno, and the sentence in *ret_error (caller frees; NULL otherwise).
 */
int rpc_call(struct rpc *rpc, const char *method, json_t *parameters, const int *fds, size_t n_fds,
             json_t **ret, char **ret_error);
