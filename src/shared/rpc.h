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

#define _cleanup_json_ _cleanup_(json_decrefp) /* which jansson.h defines */

/*
 * Wraps a connected, blocking or non-blocking, Unix stream socket, which it owns from then on (on
 * failure it stays the caller's). -EPROTOTYPE: another kind of socket. The caller frees *ret.
 */
int rpc_new(int fd, struct rpc **ret);
/* Connects to RUN_DIR/slimd.sock. -ENOENT or -ECONNREFUSED: no slimd there. */
int rpc_connect(const char *run_dir, struct rpc **ret);
void rpc_free(struct rpc *rpc);
DEFINE_CLEANUP(struct rpc *, rpc_free)
int rpc_fd(const struct rpc *rpc);

/*
 * Sends one message, a JSON object. The descriptors stay the caller's. On a non-blocking socket
 * what the peer does not take now is kept; rpc_flush() sends on, and rpc_pending() says how many
 * bytes are left (0 or more with a return value of 0). Nothing bounds what is kept: a server that
 * minds looks at rpc_pending(). -EINVAL: no object, or too many descriptors. -E2BIG: longer than
 * RPC_MESSAGE_MAX. -EPIPE: the peer is gone. No SIGPIPE.
 */
int rpc_send(struct rpc *rpc, const json_t *message, const int *fds, size_t n_fds);
int rpc_flush(struct rpc *rpc);
size_t rpc_pending(const struct rpc *rpc);

/*
 * The next whole message: 1 and *ret (a new reference), 0 when there is none yet (non-blocking),
 * -ECONNRESET at the end of the stream, -EBADMSG for what is no JSON object or has descriptors that
 * are too many or inside a message, -E2BIG past RPC_MESSAGE_MAX, -EMFILE when a descriptor did not
 * fit. After an error but -ENOMEM every further call repeats it; an answer can still be sent.
 * Its descriptors (at most RPC_FDS_MAX, close-on-exec, the caller's) go to fds and *ret_n_fds;
 * those that a caller does not ask for (fds NULL) are closed.
 *
 * While a message can be received the socket polls readable: one call per POLLIN is enough.
 */
int rpc_receive(struct rpc *rpc, json_t **ret, int fds[RPC_FDS_MAX], size_t *ret_n_fds);

/*
 * One call and its answer, for clients; waits on a non-blocking socket too. parameters may be NULL
 * and is not consumed. *ret: the answer's "parameters", a new reference. On an error answer: its
 * negative errno, and the sentence in *ret_error (caller frees; NULL otherwise). -ECONNRESET: the
 * peer hung up; -EBADMSG: it did not answer as slimd does. ret and ret_error may be NULL.
 */
int rpc_call(struct rpc *rpc, const char *method, json_t *parameters, const int *fds, size_t n_fds,
             json_t **ret, char **ret_error);
