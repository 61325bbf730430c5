/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of BPF: the smallest program or map that needs the feature, which the kernel loads or
 * refuses. Lists of what a kernel has are not asked, since its verifier may refuse what they name.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stddef.h>

#include "../abi/slim-abi.h"
#include "../basic/fd.h"
#include "probe-parts.h"

/* --- instructions ----------------------------------------------------------------------------- */

/* clang-format off */
#define MOV_IMM(reg, value)                                                                        \
        ((struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (reg), .imm = (value)})
#define MOV_REG(to, from)                                                                          \
        ((struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from)})
#define ADD_IMM(reg, value)                                                                        \
        ((struct bpf_insn){.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = (reg), .imm = (value)})
/* 64 bits: *(reg + offset) = value, and to = *(reg + offset) */
#define STORE_IMM(reg, offset, value)                                                              \
        ((struct bpf_insn){.code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = (reg), .off = (offset),    \
                           .imm = (value)})
#define LOAD(to, reg, offset)                                                                      \
        ((struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = (to), .src_reg = (reg),   \
                           .off = (offset)})
#define JUMP_IF_ZERO(reg, by)                                                                      \
        ((struct bpf_insn){.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = (reg), .off = (by)})
#define CALL(helper)                                                                               \
        ((struct bpf_insn){.code = BPF_JMP | BPF_CALL, .imm = (helper)})
#define EXIT ((struct bpf_insn){.code = BPF_JMP | BPF_EXIT})
/* A map, by its descriptor: two instructions long. */
#define LOAD_MAP(reg, fd)                                                                          \
        ((struct bpf_insn){.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = (reg),                    \
                           .src_reg = BPF_PSEUDO_MAP_FD, .imm = (fd)}),                            \
        ((struct bpf_insn){})
/* clang-format on */

static int load(enum bpf_prog_type type, enum bpf_attach_type attach, const struct bpf_insn *insns,
                size_t n, char *detail, size_t size)
{
        LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach);
        _cleanup_close_ int fd = -1;

        fd = bpf_prog_load(type, "slim_probe", "Dual BSD/GPL", insns, n, &opts);
        if (fd < 0)
                return probe_say(detail, size, -errno, "the kernel does not load it: %m");
        return 0;
}

#define LOAD_PROGRAM(type, attach, detail, size, ...)                                 \
        ({                                                                            \
                const struct bpf_insn _insns[] = {__VA_ARGS__};                       \
                                                                                      \
                load((type), (attach), _insns, ARRAY_SIZE(_insns), (detail), (size)); \
        })

/* --- types ------------------------------------------------------------------------------------ */

#define PROGRAM_TYPE(name, type, attach)                                                          \
        int probe_##name(char *detail, size_t size)                                               \
        {                                                                                         \
                return LOAD_PROGRAM((type), (attach), detail, size, MOV_IMM(BPF_REG_0, 1), EXIT); \
        }

PROGRAM_TYPE(connect4, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT)
PROGRAM_TYPE(connect6, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT)
PROGRAM_TYPE(bind4, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_BIND)
PROGRAM_TYPE(bind6, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_BIND)
PROGRAM_TYPE(getpeername4, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME)
PROGRAM_TYPE(getpeername6, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME)
PROGRAM_TYPE(getsockname4, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETSOCKNAME)
PROGRAM_TYPE(getsockname6, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETSOCKNAME)
PROGRAM_TYPE(sock_release, BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE)
PROGRAM_TYPE(sock_ops, BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS)
PROGRAM_TYPE(sk_lookup, BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP)
PROGRAM_TYPE(sched_cls, BPF_PROG_TYPE_SCHED_CLS, 0)

/* --- helpers ---------------------------------------------------------------------------------- */

int probe_set_retval(char *detail, size_t size)
{
        return LOAD_PROGRAM(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, detail, size,
                            MOV_IMM(BPF_REG_1, -EHOSTUNREACH), CALL(BPF_FUNC_set_retval),
                            MOV_IMM(BPF_REG_0, 0), EXIT);
}

int probe_tcp_sock(char *detail, size_t size)
{
        return LOAD_PROGRAM(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_BIND, detail, size,
                            LOAD(BPF_REG_1, BPF_REG_1, offsetof(struct bpf_sock_addr, sk)),
                            CALL(BPF_FUNC_skc_to_tcp_sock), MOV_IMM(BPF_REG_0, 1), EXIT);
}

int probe_hdr_opt(char *detail, size_t size)
{
        return LOAD_PROGRAM(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, detail, size,
                            MOV_REG(BPF_REG_6, BPF_REG_1), STORE_IMM(BPF_REG_10, -24, 0),
                            STORE_IMM(BPF_REG_10, -16, 0), STORE_IMM(BPF_REG_10, -8, 0),
                            MOV_IMM(BPF_REG_2, SLIM_OPTION_LEN), MOV_IMM(BPF_REG_3, 0),
                            CALL(BPF_FUNC_reserve_hdr_opt), MOV_REG(BPF_REG_1, BPF_REG_6),
                            MOV_REG(BPF_REG_2, BPF_REG_10), ADD_IMM(BPF_REG_2, -24),
                            MOV_IMM(BPF_REG_3, SLIM_OPTION_LEN), MOV_IMM(BPF_REG_4, 0),
                            CALL(BPF_FUNC_store_hdr_opt), MOV_IMM(BPF_REG_0, 1), EXIT);
}

static int listeners_create(char *detail, size_t size)
{
        int fd = bpf_map_create(BPF_MAP_TYPE_SOCKHASH, "slim_probe",
                                sizeof(struct slim_listener_key), sizeof(__u64), 1, NULL);

        return fd < 0 ? probe_say(detail, size, -errno, "the kernel makes no SOCKHASH: %m") : fd;
}

int probe_listener_lookup(char *detail, size_t size)
{
        _cleanup_close_ int map = -1;

        map = listeners_create(detail, size);
        if (map < 0)
                return map;
        return LOAD_PROGRAM(
            BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, detail, size, MOV_REG(BPF_REG_6, BPF_REG_1),
            STORE_IMM(BPF_REG_10, -8, 0), LOAD_MAP(BPF_REG_1, map), MOV_REG(BPF_REG_2, BPF_REG_10),
            ADD_IMM(BPF_REG_2, -8), CALL(BPF_FUNC_map_lookup_elem), JUMP_IF_ZERO(BPF_REG_0, 7),
            MOV_REG(BPF_REG_7, BPF_REG_0), MOV_REG(BPF_REG_1, BPF_REG_6),
            MOV_REG(BPF_REG_2, BPF_REG_7), MOV_IMM(BPF_REG_3, 0), CALL(BPF_FUNC_sk_assign),
            MOV_REG(BPF_REG_1, BPF_REG_7), CALL(BPF_FUNC_sk_release), MOV_IMM(BPF_REG_0, 1), EXIT);
}

int probe_listener_update(char *detail, size_t size)
{
        _cleanup_close_ int map = -1;

        map = listeners_create(detail, size);
        if (map < 0)
                return map;
        return LOAD_PROGRAM(
            BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, detail, size, STORE_IMM(BPF_REG_10, -8, 0),
            LOAD_MAP(BPF_REG_2, map), MOV_REG(BPF_REG_3, BPF_REG_10), ADD_IMM(BPF_REG_3, -8),
            MOV_IMM(BPF_REG_4, 0), CALL(BPF_FUNC_sock_hash_update), MOV_IMM(BPF_REG_0, 1), EXIT);
}

int probe_tunnel_key(char *detail, size_t size)
{
        return LOAD_PROGRAM(
            BPF_PROG_TYPE_SCHED_CLS, 0, detail, size, STORE_IMM(BPF_REG_10, -8, 0),
            MOV_REG(BPF_REG_2, BPF_REG_10), ADD_IMM(BPF_REG_2, -8),
            MOV_IMM(BPF_REG_3, offsetof(struct bpf_tunnel_key, remote_ipv4) + sizeof(__u32)),
            MOV_IMM(BPF_REG_4, 0), CALL(BPF_FUNC_skb_set_tunnel_key), MOV_IMM(BPF_REG_0, 0), EXIT);
}

int probe_redirect_peer(char *detail, size_t size)
{
        return LOAD_PROGRAM(BPF_PROG_TYPE_SCHED_CLS, 0, detail, size, MOV_IMM(BPF_REG_1, 1),
                            MOV_IMM(BPF_REG_2, 0), CALL(BPF_FUNC_redirect_peer), EXIT);
}

/* --- maps ------------------------------------------------------------------------------------- */

static int create(enum bpf_map_type type, __u32 key, __u32 value, __u32 entries,
                  const struct bpf_map_create_opts *opts, char *detail, size_t size)
{
        _cleanup_close_ int fd = -1;

        fd = bpf_map_create(type, "slim_probe", key, value, entries, opts);
        if (fd < 0)
                return probe_say(detail, size, -errno, "the kernel does not make it: %m");
        return 0;
}

int probe_lru_hash(char *detail, size_t size)
{
        return create(BPF_MAP_TYPE_LRU_HASH, sizeof(struct slim_tuple), sizeof(struct slim_syn), 64,
                      NULL, detail, size);
}

int probe_lpm_trie(char *detail, size_t size)
{
        LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);

        return create(BPF_MAP_TYPE_LPM_TRIE, sizeof(struct slim_prefix_key), sizeof(__u32), 1,
                      &opts, detail, size);
}

DEFINE_CLEANUP(struct btf *, btf__free)

/* An int, known to the kernel as type *ret_id of *ret. */
static int describe_int(struct btf **ret, int *ret_id)
{
        _cleanup_(btf__freep) struct btf *btf = btf__new_empty();
        libbpf_print_fn_t print;
        int id = 0, r;

        if (!btf)
                return -errno;
        id = btf__add_int(btf, "int", sizeof(int), BTF_INT_SIGNED);
        if (id < 0)
                return id;
        /* libbpf says on standard error what the answer says as well. */
        print = libbpf_set_print(NULL);
        r = btf__load_into_kernel(btf);
        libbpf_set_print(print);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(btf);
        *ret_id = id;
        return 0;
}

/* This type of map is described by BTF or not made at all: an int as the key, an int as the value.
 */
int probe_sk_storage(char *detail, size_t size)
{
        LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC | BPF_F_CLONE);
        _cleanup_(btf__freep) struct btf *btf = NULL;
        int id = 0, r;

        r = describe_int(&btf, &id);
        if (r < 0)
                return probe_say(detail, size, r, "the kernel takes no BTF: %m");
        opts.btf_fd = (__u32)btf__fd(btf);
        opts.btf_key_type_id = opts.btf_value_type_id = (__u32)id;
        return create(BPF_MAP_TYPE_SK_STORAGE, sizeof(int), sizeof(int), 0, &opts, detail, size);
}
