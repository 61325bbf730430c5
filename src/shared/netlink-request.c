/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink-request.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"

/* Large enough for what the kernel puts into one part of a dump (NLMSG_GOODSIZE up to 32 KiB). */
#define ANSWER_MAX (32U << 10)
#define DUMP_TRIES 16

struct netlink {
        struct mnl_socket *socket;
        uint32_t seq;
        char answer[ANSWER_MAX] __attribute__((aligned(8)));
};

static int socket_open(int protocol, struct mnl_socket **ret)
{
        struct mnl_socket *s = mnl_socket_open2(protocol, SOCK_CLOEXEC);

        if (!s)
                return -errno;
        if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
                int r = -errno;

                mnl_socket_close(s);
                return r;
        }
        *ret = s;
        return 0;
}

/*
 * A socket belongs to the namespace that its thread is in when it is made. The thread goes there
 * with its signals blocked, so that no handler runs in a namespace that it does not expect. If it
 * cannot come back, whatever the process did next would happen to the wrong network: better none.
 */
static int socket_open_in(int protocol, int netns_fd, struct mnl_socket **ret)
{
        _cleanup_close_ int home = -1;
        sigset_t all, old;
        int r, blocked;

        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home < 0)
                return -errno;
        sigfillset(&all);
        blocked = pthread_sigmask(SIG_BLOCK, &all, &old);
        if (blocked != 0)
                return -blocked;
        if (setns(netns_fd, CLONE_NEWNET) < 0) {
                r = -errno;
        } else {
                r = socket_open(protocol, ret);
                if (setns(home, CLONE_NEWNET) < 0) {
                        log_error_errno(-errno, "cannot return to the own network namespace: %m");
                        abort();
                }
        }
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return r;
}

int netlink_open_protocol(int protocol, int netns_fd, struct netlink **ret)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        int r, fd, on = 1;

        nl = new0(struct netlink, 1);
        if (!nl)
                return -ENOMEM;
        r = netns_fd < 0 ? socket_open(protocol, &nl->socket)
                         : socket_open_in(protocol, netns_fd, &nl->socket);
        if (r < 0)
                return r;
        /* The first makes for better messages, the second for shorter dumps: nothing hangs on them.
         */
        fd = mnl_socket_get_fd(nl->socket);
        if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)) < 0)
                log_debug_errno(-errno, "no extended netlink errors: %m, ignoring");
        if (setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)) < 0)
                log_debug_errno(-errno, "no filtered netlink dumps: %m, ignoring");
        *ret = TAKE_PTR(nl);
        return 0;
}

void netlink_free(struct netlink *nl)
{
        if (!nl)
                return;
        if (nl->socket)
                mnl_socket_close(nl->socket);
        free(nl);
}

void *netlink_request_init(struct netlink_request *req, uint16_t type, uint16_t flags,
                           size_t header_size)
{
        struct nlmsghdr *nlh;

        memset(req, 0, sizeof(*req));
        nlh = mnl_nlmsg_put_header(req->buf);
        nlh->nlmsg_type = type;
        nlh->nlmsg_flags = NLM_F_REQUEST | flags;
        /* A dump has an end of its own. (NLM_F_DUMP's bits mean other things in a NEW request.) */
        if ((flags & NLM_F_DUMP) != NLM_F_DUMP)
                nlh->nlmsg_flags |= NLM_F_ACK;
        return mnl_nlmsg_put_extra_header(nlh, header_size);
}

/* The text that the kernel put beside an error, after the error itself and the request it echoes.
 */
static void log_error_text(const struct nlmsghdr *nlh, const struct nlmsgerr *err)
{
        size_t skip = sizeof(*err);
        const struct nlattr *attr;

        if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
                return;
        if (!(nlh->nlmsg_flags & NLM_F_CAPPED) && err->msg.nlmsg_len > sizeof(err->msg))
                skip += err->msg.nlmsg_len - sizeof(err->msg);
        if (mnl_nlmsg_get_payload_len(nlh) < skip)
                return;
        mnl_attr_for_each(attr, nlh, skip)
        {
                if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
                    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
                        log_debug_errno(err->error, "netlink request %u: %s (%m)",
                                        err->msg.nlmsg_type, mnl_attr_get_str(attr));
        }
}

static int answer_error(const struct nlmsghdr *nlh)
{
        const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);

        if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*err))
                return -EBADMSG;
        if (err->error != 0)
                log_error_text(nlh, err);
        return err->error > 0 ? -EBADMSG : err->error;
}

/* The end of a dump says whether the kernel could finish it. */
static int answer_done(const struct nlmsghdr *nlh)
{
        int error;

        if (mnl_nlmsg_get_payload_len(nlh) < sizeof(error))
                return 0;
        memcpy(&error, mnl_nlmsg_get_payload(nlh), sizeof(error));
        return error < 0 ? error : 0;
}

static ssize_t receive(struct netlink *nl)
{
        for (;;) {
                ssize_t n = mnl_socket_recvfrom(nl->socket, nl->answer, sizeof(nl->answer));

                if (n >= 0)
                        return n;
                if (errno != EINTR)
                        return -errno;
        }
}

int netlink_request_run(struct netlink *nl, struct netlink_request *req, netlink_message on_message,
                        void *userdata)
{
        uint32_t port = mnl_socket_get_portid(nl->socket);
        bool interrupted = false;
        int stop = 0;

        req->head.nlmsg_seq = ++nl->seq;
        while (mnl_socket_sendto(nl->socket, req->buf, req->head.nlmsg_len) < 0)
                if (errno != EINTR)
                        return -errno;
        for (;;) {
                const struct nlmsghdr *nlh;
                ssize_t got = receive(nl);
                int len;

                if (got < 0)
                        return (int)got;
                len = (int)got;
                for (nlh = (const void *)nl->answer; mnl_nlmsg_ok(nlh, len);
                     nlh = mnl_nlmsg_next(nlh, &len)) {
                        int r;

                        /* What is left of an earlier request that ended with an error here. */
                        if (nlh->nlmsg_seq != nl->seq || nlh->nlmsg_pid != port)
                                continue;
                        if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
                                interrupted = true;
                        if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE) {
                                r = nlh->nlmsg_type == NLMSG_ERROR ? answer_error(nlh)
                                                                   : answer_done(nlh);
                                if (r < 0)
                                        return r;
                                return stop == 0 && interrupted ? -EINTR : stop;
                        }
                        if (nlh->nlmsg_type >= NLMSG_MIN_TYPE && stop == 0 && on_message)
                                stop = on_message(nlh, userdata);
                }
        }
}

int netlink_request_dump(struct netlink *nl, struct netlink_request *req,
                         netlink_message on_message, void (*reset)(void *userdata), void *userdata)
{
        for (unsigned int i = 0; i < DUMP_TRIES; i++) {
                int r;

                reset(userdata);
                r = netlink_request_run(nl, req, on_message, userdata);
                if (r != -EINTR)
                        return r;
                log_debug("a netlink dump was interrupted, taking it again");
        }
        return -EBUSY;
}

int netlink_attrs(const struct nlmsghdr *nlh, size_t header_size, const struct nlattr **table,
                  unsigned int max)
{
        const struct nlattr *attr;

        memset(table, 0, sizeof(*table) * (max + 1));
        if (mnl_nlmsg_get_payload_len(nlh) < header_size)
                return -EBADMSG;
        mnl_attr_for_each(attr, nlh, header_size)
        {
                if (mnl_attr_get_type(attr) <= max)
                        table[mnl_attr_get_type(attr)] = attr;
        }
        return 0;
}

int netlink_attrs_nested(const struct nlattr *nest, const struct nlattr **table, unsigned int max)
{
        const struct nlattr *attr;

        memset(table, 0, sizeof(*table) * (max + 1));
        mnl_attr_for_each_nested(attr, nest)
        {
                if (mnl_attr_get_type(attr) <= max)
                        table[mnl_attr_get_type(attr)] = attr;
        }
        return 0;
}

uint32_t netlink_attr_u32(const struct nlattr *attr, uint32_t otherwise)
{
        return attr && mnl_attr_get_payload_len(attr) == sizeof(uint32_t) ? mnl_attr_get_u32(attr)
                                                                          : otherwise;
}
