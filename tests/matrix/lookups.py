# SPDX-License-Identifier: Apache-2.0
"""
What sockets, and the namespace that they are in, say of themselves: TCP_INFO, error queues,
ancillary data, sock_diag, netlink. For a case by way of inside.py.
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
import threading
import time

from processes import _Child, errname

_libc = ctypes.CDLL(None, use_errno=True)

# Whether a FIN was acknowledged yet is a matter of time: FIN_WAIT1 and FIN_WAIT2 are one.
STATES = ["", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "FIN_WAIT", "TIME_WAIT", "CLOSE",
          "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"]


def socketpair(family):
    """As the C library does it: Python's makes one out of two TCP sockets."""
    fds = (ctypes.c_int * 2)()
    if _libc.socketpair(family, _socket.SOCK_STREAM, 0, fds) < 0:
        raise OSError(ctypes.get_errno(), "socketpair")
    for fd in fds:
        os.close(fd)
    return "made"


def text_option(sock, level, option):
    try:
        return sock.getsockopt(level, option, 32).partition(b"\0")[0].decode()
    except OSError as e:
        return errname(e)


def device_option(sock):
    """SO_BINDTODEVICE: "own" is this namespace's."""
    name = text_option(sock, 1, 25)
    return {"eth0": "own", "uplink": "own"}.get(name, name or "none")


def peer_name_option(sock):
    if sock.family == _socket.AF_INET6:
        raw = sock.getsockopt(1, 28, 28)
        return (_socket.inet_ntop(10, raw[8:24]), struct.unpack("!H", raw[2:4])[0])
    raw = sock.getsockopt(1, 28, 16)
    return (_socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0])


def memory_matches(sock):
    said = []
    for option, path in ((7, "tcp_wmem"), (8, "tcp_rmem")):
        with open(f"/proc/sys/net/ipv4/{path}") as f:
            said.append(sock.getsockopt(1, option) == int(f.read().split()[1]))
    return said


def ports_in_range(count):
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = map(int, f.read().split())
    held = [_socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("0.0.0.0", 0))
    good = sum(low <= s.getsockname()[1] <= high for s in held)
    for s in held:
        s.close()
    return f"{good} of {count}"


def connect_ports_in_range(address, port, count):
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = map(int, f.read().split())
    held = [_socket.create_connection((address, port)) for _ in range(count)]
    good = sum(low <= s.getsockname()[1] <= high for s in held)
    for s in held:
        s.close()
    return f"{good} of {count}"


# --- TCP_INFO --------------------------------------------------------------------------------------


def tcp_state(sock):
    return STATES[sock.getsockopt(6, 11, 104)[0]]


def tcp_info(sock):
    raw = sock.getsockopt(6, 11, 256)
    sent, received = struct.unpack_from("=QQ", raw, 120)
    return {"state": STATES[raw[0]], "acked": sent, "received": received,
            "rtt": struct.unpack_from("=I", raw, 68)[0] > 0}


def tcp_options(sock):
    raw = sock.getsockopt(6, 11, 104)
    names = [n for n, bit in (("timestamps", 1), ("SACK", 2), ("window scale", 4)) if raw[5] & bit]
    return ", ".join(names)


def keepalives(sock):
    """Waits for a probe and its answer: the time since the last ACK falls."""
    end = time.monotonic() + 10
    before = 0
    while time.monotonic() < end:
        now = struct.unpack_from("=I", sock.getsockopt(6, 11, 104), 56)[0]
        if now < before:
            return "answered"
        before = now
        time.sleep(0.02)
    return "no answer"


def saved_syn(sock):
    """Which TCP options the SYN had, and from whom it came by its IP header."""
    raw = sock.getsockopt(6, 28, 200)
    if not raw:
        return "nothing"
    size = (raw[0] & 15) * 4 if raw[0] >> 4 == 4 else 40
    tcp = raw[size:]
    options, kinds = tcp[20:(tcp[12] >> 4) * 4], []
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        kinds.append(options[0])
        options = options[options[1]:]
    source = _socket.inet_ntoa(raw[12:16]) if raw[0] >> 4 == 4 else _socket.inet_ntop(10, raw[8:24])
    return [("from", (source, 0)),
            "options " + " ".join(map(str, sorted(kinds)))]


# --- data --------------------------------------------------------------------------------------------


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
    return _Child(pid)


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
    return _Child(pid)


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


# --- the namespace -----------------------------------------------------------------------------------


def proc_has_port(port):
    with open("/proc/net/tcp") as f:
        return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in f.readlines()[1:])


def diag_ports(port):
    """Is a socket with that local or remote port in this namespace's sock_diag?"""
    with _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 4) as s:
        body = struct.pack("=BBBBI", 2, 6, 0, 0, 0xfff) + bytes(48)
        s.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
        found = False
        while True:
            raw = s.recv(65536)
            while len(raw) >= 16:
                size, kind = struct.unpack_from("=IH", raw)
                if kind == 3:
                    return found
                if kind == 2:
                    return errno.errorcode[-struct.unpack_from("=i", raw, 16)[0]]
                found = found or port in struct.unpack_from("!HH", raw, 20)
                raw = raw[(size + 3) & ~3:]


def _dump(kind):
    """Every message of a netlink dump of rtnetlink."""
    with _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 0) as s:
        s.send(struct.pack("=IHHII", 16 + 16, kind, 0x301, 1, 0) + bytes(16))
        while True:
            raw = s.recv(1 << 20)
            while len(raw) >= 16:
                size, got = struct.unpack_from("=IH", raw)
                if got == 3:
                    return
                yield raw[16:size]
                raw = raw[(size + 3) & ~3:]


def has_address(address):
    wanted = _socket.inet_aton(address)
    return any(wanted in message[8:] for message in _dump(22))


def global6():
    """A global IPv6 address of the device that has the address; "" if there is none."""
    with open("/proc/net/if_inet6") as f:
        for line in f:
            address, _, _, scope, _, device = line.split()
            if scope == "00" and device in ("eth0", "uplink"):
                return _socket.inet_ntop(10, bytes.fromhex(address))
    return ""


def lo_index():
    return _socket.if_nametoindex("lo")


def link_names():
    found = [m for m in _dump(18)]
    names = [n for _, n in _socket.if_nameindex()]
    return [len(found) == len(names), "lo" in names, "eth0" in names or "uplink" in names]


def packet_socket():
    """Bound to the device with an address; its name is told."""
    names = [n for _, n in _socket.if_nameindex()]
    device = "eth0" if "eth0" in names else "uplink"
    with _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW) as s:
        s.bind((device, 0x0003))
        return s.getsockname()[0] == device


def unix_echo(path):
    with _socket.socket(_socket.AF_UNIX) as listener:
        listener.bind(path)
        try:
            listener.listen()
            with _socket.socket(_socket.AF_UNIX) as c:
                c.connect(path)
                s, _ = listener.accept()
                with s:
                    c.sendall(b"unix")
                    return s.recv(4)
        finally:
            os.unlink(path)


def ping(address):
    """An ICMP echo by a raw socket: from whom the answer is."""
    def checksum(data):
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        total = (total >> 16) + (total & 0xffff)
        return ~(total + (total >> 16)) & 0xffff
    me = os.getpid() & 0xffff
    body = struct.pack("!BBHHH", 8, 0, 0, me, 1) + b"slim" * 2
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    with _socket.socket(_socket.AF_INET, _socket.SOCK_RAW, 1) as s:
        s.sendto(body, (address, 0))
        while True:
            data, source = s.recvfrom(1000)
            inner = data[(data[0] & 15) * 4:]
            if inner[0] == 0 and struct.unpack_from("!H", inner, 4)[0] == me:
                return ("echo from", source[0])
