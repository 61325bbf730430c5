# SPDX-License-Identifier: Apache-2.0
"""
The ways to send and to receive that Python has no method for, error queues and ancillary data, in an
agent (inside.py).
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket as _socket
import struct
import tempfile
import threading
import time

from system import Child, libc

_libc = ctypes.CDLL(None, use_errno=True)


# --- plain data -----------------------------------------------------------------------------------


def fill(sock):
    """Sends until the socket takes no more, for good (it must not block): how much it was."""
    total = full = 0
    while full < 5:  # some is on its way still, and makes room when it arrives
        try:
            total += sock.send(bytes(65536))
            full = 0
        except BlockingIOError:
            full += 1
            time.sleep(0.05)
    return total


def drain(sock, amount):
    """Reads that much, or to the end: how much it was."""
    total = 0
    while total < amount:
        n = len(sock.recv(min(65536, amount - total)))
        if not n:
            break
        total += n
    return total


def read(sock, size):
    return os.read(sock.fileno(), size)


def write(sock, data):
    return os.write(sock.fileno(), data)


def readv(sock, sizes):
    buffers = [bytearray(n) for n in sizes]
    n = os.readv(sock.fileno(), buffers)
    return [n, *map(bytes, buffers)]


def writev(sock, parts):
    return os.writev(sock.fileno(), parts)


def pwrite(sock, data):
    return os.pwrite(sock.fileno(), data, 0)


def seek(sock):
    return os.lseek(sock.fileno(), 0, os.SEEK_SET)


class _Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", _Msghdr), ("len", ctypes.c_uint)]


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def _messages(buffers):
    vectors = (_Iovec * len(buffers))(*[_Iovec(ctypes.addressof(b), len(b)) for b in buffers])
    messages = (_Mmsghdr * len(buffers))()
    for i in range(len(buffers)):
        messages[i].hdr.iov = ctypes.addressof(vectors) + i * ctypes.sizeof(_Iovec)
        messages[i].hdr.iovlen = 1
    return vectors, messages


def sendmmsg(sock, parts):
    """How many messages, and how much of each."""
    buffers = [(ctypes.c_char * len(p)).from_buffer_copy(p) for p in parts]
    vectors, messages = _messages(buffers)
    n = libc("sendmmsg", sock.fileno(), messages, len(parts), 0)
    return [n, *(messages[i].len for i in range(n))]


def recvmmsg(sock, sizes, flags):
    buffers = [(ctypes.c_char * n)() for n in sizes]
    vectors, messages = _messages(buffers)
    n = libc("recvmmsg", sock.fileno(), messages, len(sizes), flags, None)
    return [n, *(buffers[i].raw[:messages[i].len] for i in range(n))]


def message(sock, size, flags):
    """recvmsg(): (data, its msg_flags, ancillary data)"""
    data, ancillary, found, name = sock.recvmsg(size, 256, flags)
    return data, found, [(level, kind, len(raw)) for level, kind, raw in ancillary], str(name)


def file_with(data):
    f = tempfile.TemporaryFile()
    f.write(data)
    f.flush()
    f.seek(0)
    return f


def sendfile(sock, file, size):
    return os.sendfile(sock.fileno(), file.fileno(), 0, size)


def sendfile_from(sock, file, size):
    """From a socket, which is no file."""
    return os.sendfile(file.fileno(), sock.fileno(), None, size)


def splice_out(sock, data):
    """From a pipe into the socket."""
    r, w = os.pipe()
    try:
        os.write(w, data)
        return os.splice(r, sock.fileno(), len(data))
    finally:
        os.close(r)
        os.close(w)


def splice_in(sock, size):
    """From the socket into a pipe, and out of it; tee() in between."""
    r, w = os.pipe()
    r2, w2 = os.pipe()
    try:
        n = os.splice(sock.fileno(), w, size)
        copied = libc("tee", r, w2, size, 0)
        return [n, copied, os.read(r2, size), os.read(r, size)]
    finally:
        for fd in r, w, r2, w2:
            os.close(fd)


def splice_sockets(source, target, size):
    """From one socket to another: through a pipe, since the kernel wants one."""
    return os.splice(source.fileno(), target.fileno(), size)


# --- ancillary data -------------------------------------------------------------------------------


def recv_truncated(sock, size):
    """MSG_TRUNC on TCP throws away and counts."""
    buffer = ctypes.create_string_buffer(size)
    n = _libc.recv(sock.fileno(), buffer, size, 0x20)
    if n < 0:
        raise OSError(ctypes.get_errno(), "recv")
    return n


def recv_inq(sock, size):
    data, ancillary, _, _ = sock.recvmsg(size, 64)
    return data, [(level, kind, struct.unpack("i", raw)[0]) for level, kind, raw in ancillary]


def zerocopy_word(sock):
    _, ancillary, flags, _ = sock.recvmsg(1, 256, _socket.MSG_ERRQUEUE)
    said = []
    for level, kind, raw in ancillary:
        number, origin, _type, _code, _pad, info, data = struct.unpack_from("=IBBBBII", raw)
        said.append((level, kind, number, origin, info, data))
    return flags & _socket.MSG_ERRQUEUE > 0, said


def timestamp_word(sock):
    """What is told of a sent byte: kinds of what is in the error queue, until it is empty."""
    found = set()
    end = time.monotonic() + 5
    while len(found) < 2 and time.monotonic() < end:
        try:
            _, ancillary, _, _ = sock.recvmsg(1, 512, _socket.MSG_ERRQUEUE | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        for level, kind, raw in ancillary:
            if (level, kind) in ((0, 11), (41, 25)):
                found.add({0: "sent", 1: "scheduled", 2: "acknowledged"}[
                    struct.unpack_from("=IBBBBII", raw)[5]])
    return sorted(found)


def zerocopy_receive(sock, size):
    """TCP_ZEROCOPY_RECEIVE: how much was mapped and how much is left to copy."""
    map_it = _libc.mmap
    map_it.restype = ctypes.c_void_p
    map_it.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                       ctypes.c_long]
    where = map_it(None, size, mmap.PROT_READ, mmap.MAP_SHARED, sock.fileno(), 0)
    if where in (None, ctypes.c_void_p(-1).value):
        return "mmap: " + errno.errorcode[ctypes.get_errno()]
    try:
        request = ctypes.create_string_buffer(struct.pack("=QIIIi", where, size, 0, 0, 0), 64)
        room = ctypes.c_int(24)
        r = _libc.getsockopt(sock.fileno(), 6, 35, request, ctypes.byref(room))
        if r < 0:
            return errno.errorcode[ctypes.get_errno()]
        _, mapped, copy, left, error = struct.unpack_from("=QIIIi", request.raw)
        return {"mapped or to copy": mapped + copy + left > 0, "error": error}
    finally:
        unmap = _libc.munmap
        unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        unmap(where, size)


def attach_filter(sock):
    """A classic filter that passes everything."""
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xffffffff))
    sock.setsockopt(1, 26, struct.pack("H6xP", 1, ctypes.addressof(code)))


def drop_resets(sock):
    """A filter that lets no reset through; it is given the TCP header."""
    code = ctypes.create_string_buffer(struct.pack("HBBI" * 4, 0x30, 0, 0, 13, 0x45, 0, 1, 4,
                                                   0x06, 0, 0, 0, 0x06, 0, 0, 0xffffffff))
    sock.setsockopt(1, 26, struct.pack("H6xP", 4, ctypes.addressof(code)))


def pktoptions(sock):
    """IP_PKTOPTIONS: the address in its IP_PKTINFO, as a name with port 0."""
    raw = sock.getsockopt(0, 9, 128)
    said = []
    while len(raw) >= 16:
        size, level, kind = struct.unpack_from("=Qii", raw)
        if (level, kind) == (0, 8):
            said.append(("IP_PKTINFO", (_socket.inet_ntoa(raw[24:28]), 0)))
        else:
            said.append((level, kind))
        raw = raw[(size + 7) & ~7:]
    return said


def pktoptions6(sock):
    raw = sock.getsockopt(41, 6, 256)
    said = []
    while len(raw) >= 16:
        size, level, kind = struct.unpack_from("=Qii", raw)
        if (level, kind) == (41, 50):
            said.append(("IPV6_PKTINFO", (_socket.inet_ntop(10, raw[16:32]), 0)))
        else:
            said.append((level, kind))
        raw = raw[(size + 7) & ~7:]
    return said


def sum_through(sock, size):
    """Sends so much and gets it back at the same time: is it the same?"""
    data = bytes(i % 251 for i in range(4096)) * (size // 4096)
    back = bytearray()

    def reader():
        while True:
            part = sock.recv(65536)
            if not part:
                return
            back.extend(part)
    thread = threading.Thread(target=reader)
    thread.start()
    sock.sendall(data)
    sock.shutdown(_socket.SHUT_WR)
    thread.join()
    return [len(back), bytes(back) == data]


def echo_all(sock):
    """Sends back what comes, to its end, in a child process."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(BaseException):
            while True:
                data = sock.recv(65536)
                if not data:
                    break
                sock.sendall(data)
            sock.shutdown(_socket.SHUT_WR)
        os._exit(0)
    return Child(pid)


def talk_in_child(address, port):
    pid = os.fork()
    if pid == 0:
        s = _socket.create_connection((address, port))
        s.sendall(b"last words")
        os._exit(0)
    os.waitpid(pid, 0)
    return "ended"


def hold_in_child(address, port):
    """A process that holds a connection and the only descriptor of it."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        s = _socket.create_connection((address, port))
        os.write(w, b"1")
        select.select([], [], [])
        s.close()
    os.close(w)
    os.read(r, 1)
    os.close(r)
    return Child(pid)


class _Signal:
    def __init__(self, number):
        self.got = threading.Event()
        self.number = number
        self.old = signal.signal(number, lambda *_: self.got.set())

    def wait(self):
        end = time.monotonic() + 10
        while not self.got.is_set() and time.monotonic() < end:
            time.sleep(0.01)
        signal.signal(self.number, self.old)
        return signal.Signals(self.number).name if self.got.is_set() else "no signal"

    def close(self):
        pass


def sigurg(sock):
    waiting = _Signal(signal.SIGURG)
    fcntl.fcntl(sock.fileno(), fcntl.F_SETOWN, os.getpid())
    return waiting
