# SPDX-License-Identifier: Apache-2.0
"""
What sockets, and the namespace that they are in, say of themselves: options, TCP_INFO, sock_diag,
netlink. In an agent (inside.py).
"""

import ctypes
import errno
import os
import socket as _socket
import struct
import time

from system import errname

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


# --- TCP_INFO -------------------------------------------------------------------------------------


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


# --- the namespace --------------------------------------------------------------------------------


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
