/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The API socket: who calls, which method that is, and the answer. docs/api.md has the methods.
 */
#include <jansson.h>

#include "slimd.h"

/* Listens on RUN_DIR/slimd.sock, replacing what a dead slimd left. Says what is wrong. */
int api_start(struct slimd *d);
void api_stop(struct slimd *d);

struct client;

/* For a call that has more than one answer. As rpc_send(); parameters are consumed. */
int api_client_send(struct client *c, json_t *parameters);
/* How many bytes of its answers a client has not taken yet. */
size_t api_client_pending(const struct client *c);

/* One call on its way through a method. */
struct api_call {
        struct slimd *d;
        json_t *parameters; /* an object */
        const int *fds;     /* the connection's; closed after the call */
        size_t n_fds;
        struct client *client;
        json_t *answer; /* an empty object, for the method to fill */
        bool continues; /* more answers follow: api_client_send() */
        char *error;    /* a sentence, when the method returns an errno; freed after the call */
};

/*
 * Unpacks a call's parameters with a json_unpack() format and JSON_STRICT: what is missing, unknown
 * or of another type becomes -EINVAL and a sentence.
 */
#define api_unpack(call, ...)                                                          \
        ({                                                                             \
                json_error_t _e_;                                                      \
                json_unpack_ex((call)->parameters, &_e_, JSON_STRICT, __VA_ARGS__) < 0 \
                    ? api_fail((call), -EINVAL, "parameters: %s", _e_.text)            \
                    : 0;                                                               \
        })

/* Sets the sentence and returns r: return api_fail(call, -ENOENT, "…", …). */
int api_fail(struct api_call *call, int r, const char *format, ...) _printf_(3, 4);

/* -EINVAL and a sentence, unless the text is a name. */
int api_check_name(struct api_call *call, const char *what, const char *name);

/* The named network, or the default one, which is made when it is first wanted. As the methods. */
int api_want_network(struct api_call *call, const char *name, struct network **ret);

/* An endpoint as answers have it (ENDPOINT in docs/api.md): a new reference, or NULL. */
json_t *api_describe_endpoint(const struct slimd *d, const struct endpoint *e);

/* The methods. 0, or a negative errno and call->error. */
int api_network_create(struct api_call *call);
int api_network_list(struct api_call *call);
int api_network_remove(struct api_call *call);
int api_network_label(struct api_call *call);
int api_endpoint_add(struct api_call *call);
int api_endpoint_attach(struct api_call *call);
int api_endpoint_detach(struct api_call *call);
int api_endpoint_list(struct api_call *call);
int api_endpoint_show(struct api_call *call);
int api_endpoint_label(struct api_call *call);
int api_event_monitor(struct api_call *call);
int api_endpoint_limit(struct api_call *call);
int api_connection_list(struct api_call *call);
int api_key_show(struct api_call *call);
int api_key_rotate(struct api_call *call);
int api_policy_apply(struct api_call *call);
int api_policy_list(struct api_call *call);
int api_policy_show(struct api_call *call);
int api_policy_remove(struct api_call *call);
int api_policy_check(struct api_call *call);
int api_status(struct api_call *call);
