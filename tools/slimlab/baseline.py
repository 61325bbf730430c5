# SPDX-License-Identifier: Apache-2.0
"""
The overlay that Slim is compared with, as Flannel's vxlan backend and its CNI bridge build it:

    container  eth0 10.99.H.X/24, default route via 10.99.H.1, MTU of the underlay less 50
       veth, plugged into
    base-br    a bridge, 10.99.H.1/24
       routed by the host's stack (10.99.P.0/24 via 10.99.P.0 dev base-vxlan onlink) to
    base-vxlan a VXLAN device (VNI 1, UDP port 8472, no learning), 10.99.H.0/32, with a permanent
               neighbour and FDB entry for each other host's
       encapsulated, to
    uplink

There are no firewall rules and no NAT (Flannel and Docker add some), so it is somewhat faster than
the real thing. A host gets its part when its first baseline container is started.

A container has its own network, mount, PID, UTS and IPC namespaces over the machine's root. Three
processes carry it: this one, which passes signals on and waits; the first process of the PID
namespace, which reaps, and which the kernel kills when this one dies; and the program. The
namespaces, and with them the veth, go with the last process.
"""

import contextlib
import fcntl
import os
import signal
import subprocess

from . import system
from .state import host_address, host_index
from .system import LabError, ip, netns, sysctl
from .underlay import MTU

OVERHEAD = 50  # outer Ethernet, IPv4, UDP and VXLAN headers
CONTAINER_MTU = MTU - OVERHEAD

_FORWARDED = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
              signal.SIGTERM, signal.SIGCONT, signal.SIGWINCH, signal.SIGALRM}


def _vxlan_mac(index):
    return f"02:00:5e:00:63:{index:02x}"


def _container_mac(address):
    return "02:42:" + ":".join(f"{int(b):02x}" for b in address.split("."))


def _device(address):
    """The host's side of a container's veth."""
    return f"base{address.rpartition('.')[2]}"


def _peer_lines(index):
    """What a host has to know of another one."""
    mac = _vxlan_mac(index)
    return [f"neigh replace 10.99.{index}.0 lladdr {mac} dev base-vxlan nud permanent",
            f"route replace 10.99.{index}.0/24 via 10.99.{index}.0 dev base-vxlan onlink"], \
        f"fdb replace {mac} dev base-vxlan dst {host_address(index)} self permanent"


def _bridge(lines):
    done = subprocess.run(["bridge", "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise LabError(f"bridge {lines[0]}: {done.stderr.strip().splitlines()[0]}")


def ensure_host(state, host):
    """Gives a host its bridge and VXLAN device, and tells it and the others of each other."""
    known = state.data["baseline_hosts"]
    if host in known:
        return
    index = host_index(host)
    with netns(state.netns(host)):
        # Left over from an attempt that was killed.
        for device in ("base-vxlan", "base-br"):
            with contextlib.suppress(LabError):
                ip(f"link del {device}")
        sysctl("net/ipv4/ip_forward", "1")
        ip([f"link add base-br mtu {CONTAINER_MTU} type bridge stp_state 0 forward_delay 0",
            f"addr add 10.99.{index}.1/24 brd + dev base-br",
            "link set base-br up",
            f"link add base-vxlan address {_vxlan_mac(index)} mtu {CONTAINER_MTU} type vxlan id 1 "
            f"local {host_address(index)} dev uplink dstport 8472 nolearning",
            f"addr add 10.99.{index}.0/32 dev base-vxlan"])
        # An IPv4 overlay: nothing but its packets is to be counted on the device.
        sysctl("net/ipv6/conf/base-vxlan/disable_ipv6", "1")
        ip("link set base-vxlan up")
        peers = [_peer_lines(host_index(p)) for p in known]
        if peers:
            ip([line for lines, _ in peers for line in lines])
            _bridge([fdb for _, fdb in peers])
    for peer in known:
        with netns(state.netns(peer)):
            lines, fdb = _peer_lines(index)
            ip(lines)
            _bridge([fdb])
    known.append(host)


# --- a container ----------------------------------------------------------------------------------


def claim(state, name):
    """The lock that says that the container runs. Every process but the program holds it."""
    fd = os.open(f"{state.dir}/{name}.baseline", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise LabError(f"the baseline container {name} runs already") from None
    return fd


def _hosts_file(state, name, address):
    """What the container has as /etc/hosts. Without its own name there, programs that look
    themselves up wait for a name server that they cannot reach."""
    path = f"{state.dir}/{name}.hosts"
    with open(path, "w") as f:
        f.write(f"127.0.0.1 localhost\n::1 localhost\n{address} {name}\n")
    return path


def run(state, host, name, address, argv, cpus):
    """Runs a program in a container and returns its exit status. The caller has claimed the name,
    is in the lab's cgroup, and does nothing else afterwards."""
    device = _device(address)
    hosts = _hosts_file(state, name, address)
    gateway = f"10.99.{host_index(host)}.1"
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})

    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    me = os.getpid()
    system.unshare(system.CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        status = 1
        try:
            os.close(ready_r)
            os.close(go_w)
            system.die_with_parent(me)
            system.unshare(system.CLONE_NEWNET | system.CLONE_NEWNS | system.CLONE_NEWUTS
                           | system.CLONE_NEWIPC)
            os.write(ready_w, b"1")
            if os.read(go_r, 1) == b"1":
                os.close(ready_w)
                os.close(go_r)
                status = _first_process(name, address, gateway, hosts, argv, cpus)
        except LabError as e:
            os.write(2, f"lab: {e}\n".encode())
        finally:
            os._exit(status)
    os.close(ready_w)
    os.close(go_r)
    # The next children, ip(8) among them, are to be in our own PID namespace again.
    system.setns(home, system.CLONE_NEWPID, "our own PID namespace")
    os.close(home)

    if os.read(ready_r, 1) == b"1":
        try:
            with netns(state.netns(host)):
                # A namespace that just lost its last process goes a moment later.
                with contextlib.suppress(LabError):
                    ip(f"link del {device}")
                ip([f"link add {device} mtu {CONTAINER_MTU} type veth peer name eth0 "
                    f"address {_container_mac(address)} mtu {CONTAINER_MTU} netns {first}",
                    f"link set {device} master base-br up"])
            os.write(go_w, b"1")
        except LabError:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            raise
    os.close(go_w)
    return _wait(first)


def _first_process(name, address, gateway, hosts, argv, cpus):
    """The container's own init: makes the place ready, starts the program, reaps."""
    system.mount(None, "/", None, system.MS_REC | system.MS_PRIVATE)
    hardening = system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC
    system.mount("proc", "/proc", "proc", hardening)
    # A sysfs of this network namespace: /sys/class/net shows eth0.
    system.mount("sysfs", "/sys", "sysfs", hardening | system.MS_RDONLY)
    system.mount(hosts, "/etc/hosts", None, system.MS_BIND)
    system.sethostname(name)
    ip(["link set lo up",
        f"addr add {address}/24 brd + dev eth0",
        "link set eth0 up",
        f"route add default via {gateway}"])
    program = os.fork()
    if program == 0:
        if cpus:
            os.sched_setaffinity(0, cpus)
        system.exec_program(argv)
    return _wait(program)


def _wait(program):
    """Passes signals on to a process, reaps what ends, returns the process's status."""
    while True:
        got = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        if got.si_signo == signal.SIGCHLD:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                if pid == program:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
        elif got.si_code <= 0:
            # Sent by a process. What the terminal sends, it sends to the program as well.
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, got.si_signo)
