/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "probe-parts.h"

#define CGROUP_BPF "use a kernel with CONFIG_CGROUP_BPF"

static const struct probe probes[] = {
    {"privileges", true, "the capabilities to load BPF programs and make namespaces",
     "run it as root, outside of an unprivileged container", probe_privileges},
    {"cgroup2", true, "the cgroup2 file system, which BPF programs are attached to",
     "mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with the unified hierarchy)",
     probe_cgroup2},
    {"bpffs", true, "the BPF file system, which keeps programs over a restart of slimd",
     "use a kernel with CONFIG_BPF_SYSCALL; mount -t bpf bpf /sys/fs/bpf", probe_bpffs},
    {"btf", true, "the kernel's own type information, which programs are fitted to",
     "use a kernel with CONFIG_DEBUG_INFO_BTF", probe_btf},

    {"connect4", true, "BPF on connect() of IPv4 sockets", CGROUP_BPF, probe_connect4},
    {"connect6", true, "BPF on connect() of IPv6 sockets", CGROUP_BPF, probe_connect6},
    {"bind4", true, "BPF on bind() of IPv4 sockets", CGROUP_BPF, probe_bind4},
    {"bind6", true, "BPF on bind() of IPv6 sockets", CGROUP_BPF, probe_bind6},
    {"getpeername4", true, "BPF on getpeername() and accept() of IPv4 sockets", CGROUP_BPF,
     probe_getpeername4},
    {"getpeername6", true, "BPF on getpeername() and accept() of IPv6 sockets", CGROUP_BPF,
     probe_getpeername6},
    {"getsockname4", true, "BPF on getsockname() of IPv4 sockets", CGROUP_BPF, probe_getsockname4},
    {"getsockname6", true, "BPF on getsockname() of IPv6 sockets", CGROUP_BPF, probe_getsockname6},
    {"sock_release", true, "BPF on the end of a socket", CGROUP_BPF, probe_sock_release},
    {"sock_ops", true, "BPF on the states of a TCP socket", CGROUP_BPF, probe_sock_ops},
    {"sk_lookup", true, "BPF that chooses the listener of a connection",
     "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_INET, 5.9 or later", probe_sk_lookup},
    {"sched_cls", true, "BPF on the packets of a device", "use a kernel with CONFIG_NET_CLS_BPF",
     probe_sched_cls},

    {"set_retval", true, "the errno of a refused call (bpf_set_retval)",
     "use a kernel with it (5.18 or later)", probe_set_retval},
    {"tcp_sock", true, "a socket's flags from bind programs (bpf_skc_to_tcp_sock)",
     "use a kernel with CONFIG_DEBUG_INFO_BTF", probe_tcp_sock},
    {"hdr_opt", true, "TCP options of one's own (bpf_store_hdr_opt)",
     "use a kernel with it (5.10 or later)", probe_hdr_opt},
    {"listener_lookup", true, "listeners out of a SOCKHASH (bpf_sk_assign in sk_lookup)",
     "use a kernel with CONFIG_BPF_STREAM_PARSER or CONFIG_NET_SOCK_MSG", probe_listener_lookup},
    {"listener_update", true, "listeners into a SOCKHASH (bpf_sock_hash_update)",
     "use a kernel with CONFIG_BPF_STREAM_PARSER or CONFIG_NET_SOCK_MSG", probe_listener_update},
    {"tunnel_key", true, "the VXLAN peer of a packet (bpf_skb_set_tunnel_key)",
     "use a kernel with CONFIG_NET_CLS_BPF and CONFIG_VXLAN", probe_tunnel_key},
    {"redirect_peer", true, "packets straight into a container (bpf_redirect_peer)",
     "use a kernel with it (5.10 or later)", probe_redirect_peer},
    {"sk_storage", true, "BPF maps of what belongs to a socket (SK_STORAGE)",
     "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_INET", probe_sk_storage},
    {"lru_hash", true, "BPF maps that forget the oldest entry (LRU_HASH)",
     "use a kernel with CONFIG_BPF_SYSCALL", probe_lru_hash},
    {"lpm_trie", true, "BPF maps of prefixes (LPM_TRIE)", "use a kernel with CONFIG_BPF_SYSCALL",
     probe_lpm_trie},

    {"notify", true, "seccomp notifications, which socket() is answered through",
     "use a kernel with CONFIG_SECCOMP_FILTER, and run it under no filter that has them",
     probe_notify},
    {"addfd", true, "a socket as the answer to a notification (ADDFD, WAIT_KILLABLE_RECV)",
     "use a kernel with it (5.19 or later)", probe_addfd},
    {"sync_wake_up", false, "notifications that stay on one processor (SYNC_WAKE_UP)",
     "it makes socket() faster: use a kernel with it (6.6 or later)", probe_sync_wake_up},

    {"veth", true, "veth pairs, for all that is not TCP", "modprobe veth (CONFIG_VETH)",
     probe_veth},
    {"vxlan", true, "external VXLAN devices, for all that is not TCP",
     "modprobe vxlan (CONFIG_VXLAN)", probe_vxlan},
    {"masquerade", true, "nftables with masquerade, for packets to other networks",
     "modprobe -a nf_tables nft_chain_nat nft_masq (CONFIG_NFT_MASQ)", probe_masquerade},
    {"sock_diag", true, "the kernel's list of sockets (inet_diag)",
     "modprobe tcp_diag (CONFIG_INET_TCP_DIAG)", probe_sock_diag},

    {"htb", false, "the HTB queueing discipline, for limits of bandwidth",
     "modprobe sch_htb (CONFIG_NET_SCH_HTB)", probe_htb},

    {"ip_forward", false, "forwarding of packets from containers to other networks",
     "sysctl -w net.ipv4.ip_forward=1", probe_ip_forward},
    {"slim_ports", false, "the Slim ports, kept from the host's own programs",
     "slimd reserves them as it starts; else sysctl -w "
     "net.ipv4.ip_local_reserved_ports=61440-61695",
     probe_slim_ports},
    {"unprivileged_bpf", false, "BPF closed to unprivileged programs",
     "it is safer, though Slim does not need it: sysctl -w kernel.unprivileged_bpf_disabled=1",
     probe_unprivileged_bpf},
    {"memlock", false, "BPF maps beyond the limit of locked memory",
     "raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity in slimd's unit)", probe_memlock},
    {"nofile", false, "4096 open files or more for slimd and each broker",
     "raise RLIMIT_NOFILE (LimitNOFILE= in slimd's unit)", probe_nofile},
};

const struct probe *probe_list(size_t *ret_n)
{
        *ret_n = ARRAY_SIZE(probes);
        return probes;
}

int probe_required(const struct probe **ret, char *detail)
{
        for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
                int r;

                if (!probes[i].required)
                        continue;
                detail[0] = '\0';
                r = probes[i].run(detail, PROBE_DETAIL_MAX);
                if (r < 0) {
                        *ret = &probes[i];
                        return r;
                }
        }
        return 0;
}

int probe_say(char *detail, size_t size, int r, const char *format, ...)
{
        va_list ap;

        errno = -r;
        va_start(ap, format);
        vsnprintf(detail, size, format, ap);
        va_end(ap);
        return r;
}

/* What the child found, in one write of less than PIPE_BUF bytes. */
struct finding {
        int r;
        char detail[PROBE_DETAIL_MAX];
};

_noreturn_ static void child_main(int (*run)(char *detail, size_t size), int unshare_flags, int fd)
{
        struct finding f = {};

        if (unshare_flags && unshare(unshare_flags) < 0)
                f.r = probe_say(f.detail, sizeof(f.detail), -errno, "cannot make a namespace: %m");
        else
                f.r = run(f.detail, sizeof(f.detail));
        write_full(fd, &f, sizeof(f));
        _exit(0);
}

int probe_in_child(int (*run)(char *detail, size_t size), int unshare_flags, char *detail,
                   size_t size)
{
        _cleanup_close_ int in = -1, out = -1;
        struct finding f;
        int pipefd[2];
        ssize_t n;
        pid_t pid;

        if (pipe2(pipefd, O_CLOEXEC) < 0)
                return probe_say(detail, size, -errno, "cannot make a pipe: %m");
        in = pipefd[0];
        out = pipefd[1];
        pid = fork();
        if (pid < 0)
                return probe_say(detail, size, -errno, "cannot start a process: %m");
        if (pid == 0)
                child_main(run, unshare_flags, out);
        out = safe_close(out);
        do {
                n = read(in, &f, sizeof(f));
        } while (n < 0 && errno == EINTR);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (n != sizeof(f))
                return probe_say(detail, size, -EIO, "the process that tried it ended early");
        snprintf(detail, size, "%s", f.detail);
        return f.r;
}
