/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The probes behind probe.h, by file, and what they share.
 */
#include <stddef.h>

#include "../basic/macro.h"

/* probe.c: writes the detail, returns r (which %m stands for). */
int probe_say(char *detail, size_t size, int r, const char *format, ...) _printf_(4, 5);

/* probe.c: runs a probe in a child process, in new namespaces (CLONE_NEW…, 0 for none). */
int probe_in_child(int (*run)(char *detail, size_t size), int unshare_flags, char *detail,
                   size_t size);

/* probe-machine.c: privileges, mounts, settings */
int probe_privileges(char *detail, size_t size);
int probe_cgroup2(char *detail, size_t size);
int probe_bpffs(char *detail, size_t size);
int probe_btf(char *detail, size_t size);
int probe_ip_forward(char *detail, size_t size);
int probe_slim_ports(char *detail, size_t size);
int probe_unprivileged_bpf(char *detail, size_t size);
int probe_memlock(char *detail, size_t size);
int probe_nofile(char *detail, size_t size);

/* probe-bpf.c: programs, helpers, maps */
int probe_connect4(char *detail, size_t size);
int probe_connect6(char *detail, size_t size);
int probe_bind4(char *detail, size_t size);
int probe_bind6(char *detail, size_t size);
int probe_getpeername4(char *detail, size_t size);
int probe_getpeername6(char *detail, size_t size);
int probe_getsockname4(char *detail, size_t size);
int probe_getsockname6(char *detail, size_t size);
int probe_sock_release(char *detail, size_t size);
int probe_sock_ops(char *detail, size_t size);
int probe_sk_lookup(char *detail, size_t size);
int probe_sched_cls(char *detail, size_t size);
int probe_set_retval(char *detail, size_t size);
int probe_tcp_sock(char *detail, size_t size);
int probe_hdr_opt(char *detail, size_t size);
int probe_listener_lookup(char *detail, size_t size);
int probe_listener_update(char *detail, size_t size);
int probe_tunnel_key(char *detail, size_t size);
int probe_redirect_peer(char *detail, size_t size);
int probe_sk_storage(char *detail, size_t size);
int probe_lru_hash(char *detail, size_t size);
int probe_lpm_trie(char *detail, size_t size);

/* probe-seccomp.c: notifications */
int probe_notify(char *detail, size_t size);
int probe_addfd(char *detail, size_t size);
int probe_sync_wake_up(char *detail, size_t size);

/* probe-net.c: devices, NAT, sock_diag */
int probe_veth(char *detail, size_t size);
int probe_vxlan(char *detail, size_t size);
int probe_masquerade(char *detail, size_t size);
int probe_sock_diag(char *detail, size_t size);
int probe_htb(char *detail, size_t size);
