# SPDX-License-Identifier: Apache-2.0
"""
Descriptors that are handed on, namespaces inside a container, and the programs of the build
directory, in an agent (inside.py).
"""

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import socket as _socket
import struct
import subprocess

from system import errname, in_child, started

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNET = 0x40000000


# --- descriptors that travel ----------------------------------------------------------------------


def send_fd(path, sock):
    """Hands the socket to whoever has called receive_fd(); they meet at a path."""
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM) as u:
        u.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS,
                            array.array("i", [sock.fileno()]))], 0, path)


def fd_box(path):
    """Where a socket can be sent to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    u = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    u.bind(path)
    os.chmod(path, 0o666)
    return u


def receive_fd(box):
    _, ancillary, _, _ = box.recvmsg(1, _socket.CMSG_SPACE(4))
    path = box.getsockname()
    box.close()
    os.unlink(path)
    return _socket.socket(fileno=array.array("i", ancillary[0][2][:4])[0])


def fd_through_fork(sock):
    """SCM_RIGHTS to a child, which looks at the names."""
    a, b = _socket.socketpair()
    a.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))])

    def child():
        _, ancillary, _, _ = b.recvmsg(1, _socket.CMSG_SPACE(4))
        s = _socket.socket(fileno=array.array("i", ancillary[0][2][:4])[0])
        return "the same" if (s.getsockname(), s.getpeername()) == \
            (sock.getsockname(), sock.getpeername()) else "others"
    said = in_child(child)
    a.close()
    b.close()
    return said


def pidfd_copy(sock):
    """pidfd_getfd() of one's own socket: the same open socket."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        fd = _libc.syscall(438, pidfd, sock.fileno(), 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return _socket.socket(fileno=fd)
    finally:
        os.close(pidfd)


# --- a namespace inside ---------------------------------------------------------------------------


def in_new_netns(port):
    """
    A child with a network namespace of its own makes a listener and connects to it by loopback,
    and finds its parent's listener on that port not there.
    """
    def child():
        if _libc.unshare(CLONE_NEWNET) < 0:
            return errno.errorcode[ctypes.get_errno()]
        said = []
        with _socket.socket() as s:
            s.setblocking(True)
            try:
                s.connect(("127.0.0.1", port))
                said.append("reached its parent")
            except OSError as e:
                said.append(errname(e))
        with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as s:  # ip link set lo up
            fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))
        with _socket.socket() as s:
            try:
                s.connect(("127.0.0.1", port))
                said.append("reached its parent")
            except OSError as e:
                said.append(errname(e))
        listener = _socket.create_server(("127.0.0.1", port))
        c = _socket.create_connection(("127.0.0.1", port))
        s, a = listener.accept()
        said.append("names agree" if a == c.getsockname() and s.getsockname() == c.getpeername()
                    else "names differ")
        c.sendall(b"nested")
        said.append(s.recv(6).decode())
        return ", ".join(said)
    return in_child(child)


def made_before_unshare(port):
    """A socket made before its process unshares keeps its namespace: it reaches the listener."""
    def child():
        s = _socket.socket()
        if _libc.unshare(CLONE_NEWNET) < 0:
            return errno.errorcode[ctypes.get_errno()]
        s.connect(("127.0.0.1", port))
        return "connected"
    return in_child(child)


# --- other programs -------------------------------------------------------------------------------


def program(name, *arguments):
    """A program of the build directory, to its end: its output, or what went wrong."""
    path = os.path.join(os.environ.get("SLIM_MATRIX_PROGRAMS", ""), name)
    if not pathlib.Path(path).exists():
        return "not built"
    done = subprocess.run([path, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().replace("\n", ", ") or f"exit {done.returncode}"


def start_program(name, *arguments):
    """A program that serves; it says "ready" first."""
    path = os.path.join(os.environ.get("SLIM_MATRIX_PROGRAMS", ""), name)
    process = subprocess.Popen([path, *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process.stdout.readline().strip()


def program_said():
    process = started[-1]
    said = process.stdout.read().strip().replace("\n", ", ")
    process.wait()
    return said
