# SPDX-License-Identifier: Apache-2.0
"""
What a case can ask of the process that it is in, beyond the methods of Python's sockets. Here: system
calls with arguments that Python does not let through, events by name, interfaces, descriptors; the
other modules below have the rest. Every function raises OSError as the call did.
"""

import array
import ctypes
import fcntl
import os
import select
import socket as _socket
import struct
import time

from lookups import *  # noqa: F401,F403: an agent looks all of them up here
from passing import *  # noqa: F401,F403
from processes import *  # noqa: F401,F403
from system import clear_up, errname, libc  # noqa: F401
from transfer import *  # noqa: F401,F403


# --- making and naming ----------------------------------------------------------------------------


def socket(*arguments):
    return _socket.socket(*arguments)


def raw_socket(domain, kind, protocol):
    """By the C library, which knows nothing of sockets that Python knows: what the kernel says."""
    fd = libc("socket", domain, kind, protocol)
    try:
        flags = "CLOEXEC " * bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        flags += "NONBLOCK " * bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)
        return flags.strip() or "made"
    finally:
        os.close(fd)


def connect_raw(sock, raw, size=None):
    libc("connect", sock.fileno(), raw, len(raw) if size is None else size)


def bind_raw(sock, raw, size=None):
    libc("bind", sock.fileno(), raw, len(raw) if size is None else size)


def disconnect(sock):
    connect_raw(sock, struct.pack("=H14x", 0))


def _decode(raw):
    if len(raw) >= 8 and raw[:2] == struct.pack("=H", _socket.AF_INET):
        return (_socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0])
    if len(raw) >= 24 and raw[:2] == struct.pack("=H", _socket.AF_INET6):
        return (_socket.inet_ntop(_socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0])
    return raw


def name_raw(call, sock, room):
    """getsockname, getpeername, or accept, into a buffer of that size: (the size said, the name)."""
    buffer = ctypes.create_string_buffer(b"\xee" * 32, 32)
    size = ctypes.c_int(room)
    r = libc(call, sock.fileno(), buffer, ctypes.byref(size))
    if call == "accept":
        os.close(r)
    whole = buffer.raw[:min(room, max(size.value, 0))]
    assert buffer.raw[max(room, 0):] == b"\xee" * (32 - max(room, 0))  # not a byte too many
    return size.value, _decode(whole) if len(whole) >= size.value else f"cut to {len(whole)}"


def accept4(sock, flags):
    """What descriptor flags an accepted socket has."""
    fd = libc("accept4", sock.fileno(), None, None, flags)
    try:
        found = "CLOEXEC " * bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        return (found + "NONBLOCK " * bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)).strip() \
            or "none"
    finally:
        os.close(fd)


def both_names(sock):
    found = []
    for call in sock.getsockname, sock.getpeername:
        try:
            found.append(call())
        except OSError as e:
            found.append(errname(e))
    return found


def lowest(sock):
    """Is a socket's descriptor the lowest that was free?"""
    free = os.dup(0)
    os.close(free)
    again = _socket.socket(sock.family, sock.type)
    try:
        return again.fileno() == free
    finally:
        again.close()


def opt_size(sock, level, option, room):
    """getsockopt() into a buffer of that size: the size it says."""
    buffer = ctypes.create_string_buffer(max(room, 1))
    size = ctypes.c_int(room)
    libc("getsockopt", sock.fileno(), level, option, buffer, ctypes.byref(size))
    return size.value


def setopt_raw(sock, level, option, raw, size=None):
    libc("setsockopt", sock.fileno(), level, option, raw, len(raw) if size is None else size)


# --- events ---------------------------------------------------------------------------------------

_POLL = [("IN", select.POLLIN), ("PRI", select.POLLPRI), ("OUT", select.POLLOUT),
         ("ERR", select.POLLERR), ("HUP", select.POLLHUP), ("RDHUP", select.POLLRDHUP)]
ASK = select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP


def _event_names(mask):
    return "|".join(name for name, bit in _POLL if mask & bit) or "nothing"


def poll(sock, wanted=None):
    """poll() for what is so now."""
    p = select.poll()
    p.register(sock, ASK if wanted is None else wanted)
    return _event_names(p.poll(0)[0][1]) if p.poll(0) else "nothing"


def wait_for(sock, wanted, seconds):
    """As wait(), for a while."""
    p = select.poll()
    p.register(sock, wanted)
    p.poll(seconds * 1000)
    return poll(sock)


def wait(sock, wanted):
    """poll() until one of the bits is there: all that are, as IN|OUT|…"""
    p = select.poll()
    p.register(sock, wanted)
    p.poll()
    return poll(sock)


def selected(sock, seconds=0):
    """select(): in which sets is it?"""
    sets = select.select([sock], [sock], [sock], seconds)
    return " ".join(n for n, s in zip(("read", "write", "except"), sets) if s) or "none"


def epoll():
    return select.epoll()


def epoll_wait(ep, seconds=0):
    return "; ".join(_event_names(m) for _, m in ep.poll(seconds)) or "nothing"


def pause():
    time.sleep(0.02)


# --- ioctl ----------------------------------------------------------------------------------------


def ioctl_int(sock, request, value=0):
    buffer = array.array("i", [value])
    fcntl.ioctl(sock.fileno(), request, buffer)
    return buffer[0]


def ioctl_set(sock, request, value):
    fcntl.ioctl(sock.fileno(), request, struct.pack("i", value))


def _as_by_udp(sock, ask):
    """What ask(fd) gives for the socket, and whether a UDP socket of this process says the same."""
    def said(s):
        try:
            return ask(s.fileno())
        except OSError as e:
            return errname(e)
    with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as udp:
        mine, its = said(sock), said(udp)
    if mine == its:
        return its if isinstance(its, str) else "as by UDP"
    return f"{mine if isinstance(mine, str) else 'answered'}, not as by UDP"


def ifreq(sock, request, name):
    return _as_by_udp(sock, lambda fd: fcntl.ioctl(fd, request,
                                                   struct.pack("16s24x", name.encode())))


def interface():
    """Of this namespace, beside lo; the one with an address comes first."""
    names = [n for _, n in _socket.if_nameindex()]
    for wanted in "eth0", "uplink":
        if wanted in names:
            return wanted
    return [n for n in names if n != "lo"][0]


def interface_list(sock):
    def ask(fd):
        room = array.array("B", bytes(4096))
        request = bytearray(struct.pack("i4xP", 4096, room.buffer_info()[0]))
        fcntl.ioctl(fd, 0x8912, request)
        size = struct.unpack("i4xP", request)[0]
        return sorted(room.tobytes()[i:i + 16] for i in range(0, size, 40))
    return _as_by_udp(sock, ask)


def namespace_of(sock):
    """SIOCGSKNS gives a descriptor of the socket's network namespace: is it this process's?"""
    fd = fcntl.ioctl(sock.fileno(), 0x894C)
    try:
        return os.fstat(fd).st_ino == os.stat("/proc/self/ns/net").st_ino
    finally:
        os.close(fd)


def same_netns(sock):
    """Does SO_NETNS_COOKIE say that a UDP socket of this process is of the same namespace?"""
    with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as udp:
        return sock.getsockopt(_socket.SOL_SOCKET, 71, 8) == \
            udp.getsockopt(_socket.SOL_SOCKET, 71, 8)


def proc_net(sock, table):
    """Has /proc/net/TABLE a line of this socket, and of nobody else's? By inode."""
    inode = os.fstat(sock.fileno()).st_ino
    with open(f"/proc/net/{table}") as f:
        return any(line.split()[9] == str(inode) for line in f.readlines()[1:])


def sysctl_matches(sock, level, option, name, scale=1):
    """Is an option what /proc/sys/NAME of this process says?"""
    with open(f"/proc/sys/{name}") as f:
        text = f.read().split()[0]
    if isinstance(scale, str):
        return sock.getsockopt(level, option, 16).rstrip(b"\0").decode() == text
    return sock.getsockopt(level, option) * scale == int(text)


# --- the descriptor -------------------------------------------------------------------------------


def stat_of(sock):
    st = os.fstat(sock.fileno())
    return {"mode": oct(st.st_mode), "uid": st.st_uid, "gid": st.st_gid, "size": st.st_size,
            "links": st.st_nlink}


def same_file_system(sock):
    """As a UDP socket's: both are of sockfs."""
    with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as udp:
        return os.fstat(sock.fileno()).st_dev == os.fstat(udp.fileno()).st_dev


def link_of(sock):
    """Does /proc/self/fd name it as a socket, with fstat()'s inode?"""
    return os.readlink(f"/proc/self/fd/{sock.fileno()}") == \
        f"socket:[{os.fstat(sock.fileno()).st_ino}]"


def chown(sock, uid, gid):
    os.fchown(sock.fileno(), uid, gid)
    return stat_of(sock)


def getfl(sock):
    return oct(fcntl.fcntl(sock.fileno(), fcntl.F_GETFL))


def dup2(sock, other):
    """dup2() of a socket over another one: the other is that socket from then on."""
    os.dup2(sock.fileno(), other.fileno())
