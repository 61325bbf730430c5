/* SPDX-License-Identifier: Apache-2.0 */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../abi/slim-queue.h"
#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/macro.h"

/* The bits of socket()'s type that are the type (SOCK_TYPE_MASK of the kernel's linux/net.h). */
#define TYPE_MASK 0xf

/* The arguments are ints: what a program left in the register's upper half does not count. */
#define INT_MASK 0xffffffffU

DEFINE_CLEANUP(scmp_filter_ctx, seccomp_release)

/*
 * The commands of <linux/sockios.h> that the kernel takes to the network namespace, and wireless
 * ones, each a mask and what it leaves. Not there: 0x8900 to 0x8907, SIOCOUTQNSD (0x894b) and
 * SIOCPROTOPRIVATE (0x89e0 and up), which are about the socket itself.
 */
static const struct {
        uint32_t mask, value;
} interface_commands[] = {
    {0xfffffff8, 0x8908}, {0xfffffff0, 0x8910}, {0xffffffe0, 0x8920}, {0xfffffff8, 0x8940},
    {0xfffffffe, 0x8948}, {0xffffffff, 0x894a}, {0xfffffffc, 0x894c}, {0xfffffff0, 0x8950},
    {0xffffffe0, 0x8960}, {0xffffffc0, 0x8980}, {0xffffffe0, 0x89c0}, {0xfffffff0, 0x89f0},
    {0xffffff00, 0x8b00},
};

static int add_ioctl(scmp_filter_ctx ctx)
{
        for (size_t i = 0; i < ARRAY_SIZE(interface_commands); i++) {
                int r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(ioctl), 1,
                                         SCMP_A1_64(SCMP_CMP_MASKED_EQ, interface_commands[i].mask,
                                                    interface_commands[i].value));

                if (r < 0)
                        return r;
        }
        return 0;
}

/*
 * getsockopt() of netfilter's own options. On a host's socket they tell of the host: its rules, and
 * with SO_ORIGINAL_DST its addresses. The BPF program of getsockopt() comes after the kernel has
 * written its answer, so this is the place to refuse them. All of SOL_IP from 64 on is netfilter's
 * or of multicast routing; SOL_IPV6 has ordinary options between them.
 */
static int add_netfilter(scmp_filter_ctx ctx)
{
        static const int ipv6[] = {64, 65, 68, 69};
        const struct scmp_arg_cmp ip_level = SCMP_A1_64(SCMP_CMP_MASKED_EQ, INT_MASK, IPPROTO_IP);
        const struct scmp_arg_cmp ipv6_level =
            SCMP_A1_64(SCMP_CMP_MASKED_EQ, INT_MASK, IPPROTO_IPV6);
        int r;

        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), SCMP_SYS(getsockopt), 2, ip_level,
                             SCMP_A2_64(SCMP_CMP_GE, 64));
        if (r < 0)
                return r;
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), SCMP_SYS(getsockopt), 2, ipv6_level,
                             SCMP_A2_64(SCMP_CMP_GE, 79));
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(ipv6); i++) {
                r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), SCMP_SYS(getsockopt), 2,
                                     ipv6_level,
                                     SCMP_A2_64(SCMP_CMP_MASKED_EQ, INT_MASK, (uint64_t)ipv6[i]));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The machine's other ABIs, by which a program may call as it goes. */
#if defined(__x86_64__)
static const uint32_t other_abis[] = {SCMP_ARCH_X86, SCMP_ARCH_X32};
#elif defined(__aarch64__)
static const uint32_t other_abis[] = {SCMP_ARCH_ARM};
#else
static const uint32_t other_abis[] = {};
#endif

static int add_other_abis(scmp_filter_ctx *ctx)
{
        for (size_t i = 0; i < ARRAY_SIZE(other_abis); i++) {
                _cleanup_(seccomp_releasep) scmp_filter_ctx other = seccomp_init(SCMP_ACT_ALLOW);
                int r;

                if (!other)
                        return -ENOMEM;
                r = seccomp_attr_set(other, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);
                if (r == 0)
                        r = seccomp_arch_remove(other, SCMP_ARCH_NATIVE);
                if (r == 0)
                        r = seccomp_arch_add(other, other_abis[i]);
                if (r == 0)
                        r = add_ioctl(other);
                if (r == 0)
                        r = add_netfilter(other);
                if (r == 0)
                        r = seccomp_merge(*ctx, other);
                if (r < 0)
                        return r;
                other = NULL; /* it is the other's now */
        }
        return 0;
}

static int filter_build(scmp_filter_ctx *ret)
{
        static const int domains[] = {AF_INET, AF_INET6};
        /* Multipath TCP is swapped as the TCP that it falls back to: an overlay has no second path,
         * and a listener of its own namespace would be out of reach for swapped clients. */
        static const int protocols[] = {0, IPPROTO_TCP, IPPROTO_MPTCP, SLIM_QUEUE_PROTOCOL};
        _cleanup_(seccomp_releasep) scmp_filter_ctx ctx = NULL;
        int r;

        ctx = seccomp_init(SCMP_ACT_ALLOW);
        if (!ctx)
                return -ENOMEM;
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);
        if (r < 0)
                return r;
        for (size_t d = 0; d < ARRAY_SIZE(domains); d++)
                for (size_t p = 0; p < ARRAY_SIZE(protocols); p++) {
                        r = seccomp_rule_add(
                            ctx, SCMP_ACT_NOTIFY, SCMP_SYS(socket), 3,
                            SCMP_A0_64(SCMP_CMP_MASKED_EQ, INT_MASK, (uint64_t)domains[d]),
                            SCMP_A1_64(SCMP_CMP_MASKED_EQ, TYPE_MASK, SOCK_STREAM),
                            SCMP_A2_64(SCMP_CMP_MASKED_EQ, INT_MASK, (uint64_t)protocols[p]));
                        if (r < 0)
                                return r;
                }
        r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(listen), 0);
        if (r == 0)
                r = add_ioctl(ctx);
        if (r == 0)
                r = add_netfilter(ctx);
        if (r == 0)
                r = add_other_abis(&ctx);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(ctx);
        return 0;
}

/* The filter as the kernel wants it. The caller frees *ret. */
static int filter_compile(struct sock_filter **ret, size_t *ret_n)
{
        _cleanup_(seccomp_releasep) scmp_filter_ctx ctx = NULL;
        _cleanup_free_ struct sock_filter *code = NULL;
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        r = filter_build(&ctx);
        if (r < 0)
                return r;
        fd = memfd_create("slim-filter", MFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return -errno;
        code = malloc((size_t)st.st_size);
        if (!code)
                return -ENOMEM;
        if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size)
                return -EIO;
        *ret = TAKE_PTR(code);
        *ret_n = (size_t)st.st_size / sizeof(struct sock_filter);
        return 0;
}

/*
 * Not seccomp_load(): it hides which error the kernel answered with, and keeps one notification
 * descriptor for the whole process, which a second load would hand out again.
 *
 * WAIT_KILLABLE_RECV: a call that the broker has begun to answer is interrupted by death alone, so
 * that a signal can neither lose a descriptor that is in the program's table already nor make the
 * broker answer twice.
 */
int filter_load(int *ret_notify_fd)
{
        _cleanup_free_ struct sock_filter *code = NULL;
        size_t n = 0;
        int r, fd;

        r = filter_compile(&code, &n);
        if (r < 0)
                return r;
        fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                          &(struct sock_fprog){.len = (unsigned short)n, .filter = code});
        if (fd < 0)
                return -errno;
        *ret_notify_fd = fd;
        return 0;
}
