# SPDX-License-Identifier: Apache-2.0
"""
Socket options in a container: every option of TCP sockets against the kernel's own answers in a plain
container, and what those mean that Slim keeps for itself. docs/sockopts.md has the table.
"""

import errno
import json
import pathlib
import socket
import struct

import pytest

from remote import PYTHON, Moved, Remote

OPTIONTABLE = pathlib.Path(__file__).with_name("optiontable.py")
V6 = "socket.AF_INET6"

# What setsockopt() refuses, whatever the kernel says: {level: {number: errno}}.
REFUSED = {
    "socket": {26: "EPERM", 36: "EPERM", 50: "EPERM", 51: "EOPNOTSUPP", 52: "EOPNOTSUPP",
               80: "ENOPROTOOPT"},
    "tcp": {14: "ENOPROTOOPT", 19: "EPERM", 20: "EPERM", 21: "EPERM", 22: "EPERM", 29: "EPERM",
            32: "ENOPROTOOPT", **{n: "ENOPROTOOPT" for n in range(38, 43)}},
    "ip": {16: "EPERM", 17: "EPERM", **{n: "EPROTO" for n in range(35, 49)},
           **{n: "ENOPROTOOPT" for n in range(64, 256)}},
    "ipv6": {20: "EPROTO", 21: "EPROTO", 27: "EPERM", 28: "EADDRNOTAVAIL", 32: "EPERM",
             34: "EPERM", 35: "EPERM", **{n: "EPROTO" for n in range(42, 49)},
             **{n: "ENOPROTOOPT" for n in (64, 65, 68, 69, *range(79, 256))}},
}

# What it refuses by the value: {level: {number: (errno, the values that are not refused)}}.
REFUSED_VALUES = {
    "socket": {12: ("EPERM", {"0", "1", "2", "long", "page"}), 69: ("EPERM", {"0", "page", "-1"}),
               70: ("EPERM", {"0", "page", "-1"}), 62: ("ENODEV", {"0", "1", "2", "-1", "long",
                                                                 "page"})},
    "tcp": {27: ("EOPNOTSUPP", {"0", "7", "-1", "name", "page"}),
            30: ("EOPNOTSUPP", {"0", "2", "7", "-1", "name", "page"})},
    "ip": {4: ("EPERM", {"empty"}), 19: ("EPERM", {"0", "empty", "page"}),
           50: ("EADDRNOTAVAIL", {"0", "empty", "page", "long", "name", "byte"})},
    "ipv6": {6: ("EPERM", {"empty"}), 54: ("EPERM", {"empty"}), 55: ("EPERM", {"empty"}),
             57: ("EPERM", {"empty"}), 59: ("EPERM", {"empty"}),
             75: ("EPERM", {"0", "empty", "byte", "page"}),
             76: ("EADDRNOTAVAIL", {"0", "empty", "page", "long", "name", "byte"})},
}


def is_netfilter(level, number):
    return (level == "ip" and number >= 64) or (level == "ipv6" and (number in (64, 65, 68, 69)
                                                                     or number >= 79))


def allowed(family, level, number, value, kernel, slim):
    """Is this difference one that the documentation lists?"""
    if family == "AF_INET" and level == "ipv6":
        # None of them is an IPv4 socket's; the seccomp filter does not know which a socket is.
        return slim[0] == kernel[0] and {kernel[1], slim[1]} == {"EOPNOTSUPP", "ENOPROTOOPT"}
    if (level == "ip" or level == "ipv6") and (number < 0 or is_netfilter(level, number)):
        return slim == ["ENOPROTOOPT", "ENOPROTOOPT", ""] and "ok" not in kernel[:2]
    by_value = REFUSED_VALUES.get(level, {}).get(number)
    refused = REFUSED.get(level, {}).get(number) or (by_value and value not in by_value[1]
                                                      and by_value[0])
    return bool(refused) and slim[0] == refused


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_every_option(lab, user):
    argv = [PYTHON, OPTIONTABLE] + (["65534"] if user == "nobody" else [])
    kernel = json.loads(lab.plain("h1", "kernel", *argv, timeout=300).stdout)
    moved = Moved(lab, "h1")
    slim = json.loads(lab.run("h1", "slim", *argv, timeout=300).stdout)
    assert moved("option_refused")["option_refused"] > 1000  # it was Slim that answered
    assert slim.keys() == kernel.keys() and len(slim) > 30000
    differs = {}
    for key, (k, s) in {key: (kernel[key], slim[key]) for key in kernel}.items():
        k, s = ([w.replace("ENOTSUP", "EOPNOTSUPP") for w in v] for v in (k, s))
        family, level, number, value = key.split()
        if k != s and not allowed(family, level, int(number), value, k, s):
            differs[key] = (k, s)
    assert differs == {}


@pytest.fixture(scope="module")
def web(lab):
    with Remote.slim(lab, "h1", "web") as r:
        yield r


@pytest.fixture(scope="module")
def native(lab):
    with Remote.plain(lab, "h1", "native") as r:
        yield r


@pytest.fixture(scope="module")
def far(lab):
    with Remote.slim(lab, "h2", "far") as r:
        yield r


def option_error(remote, call):
    try:
        remote.do(call)
    except OSError as e:
        return errno.errorcode[e.errno].replace("ENOTSUP", "EOPNOTSUPP")
    return "ok"


# --- IPV6_V6ONLY ----------------------------------------------------------------------------------


def test_v6only_is_shown_and_holds(lab, web, far):
    web.do(f"s = socket.socket({V6})")
    assert web("s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)") == 0
    web.do("s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
           "s.bind(('::', 7000)); s.listen()")
    assert web("s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)") == 1
    assert option_error(web, "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)") == "EINVAL"
    assert far(f"connect_error('{lab.ip('web')}', 7000)") == "ECONNREFUSED"
    assert web("connect_error('127.0.0.1', 7000)") == "ECONNREFUSED"
    assert web(f"connect_error('::1', 7000, {V6})") == "connected"
    web.do("s.close()")


def test_v6only_refuses_ipv4(web, native):
    for r in web, native:
        r.do(f"s = socket.socket({V6}); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)")
        assert option_error(r, "s.connect(('::ffff:127.0.0.1', 1))") == "ENETUNREACH"
        assert option_error(r, "s.bind(('::ffff:127.0.0.1', 7001))") == "EINVAL"
        assert option_error(r, "s.connect(('::1', 1))") == "ECONNREFUSED"
        r.do("s.close()")


def test_v6only_beside_ipv4(lab, web, far):
    web.do(f"six = socket.socket({V6})\n"
           "six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
           "six.bind(('::', 7002)); six.listen(); four = listen('0.0.0.0', 7002)")
    far.do(f"c = connect('{lab.ip('web')}', 7002)")
    assert web("accept(four)[1]") == far("c.getsockname()")
    assert not web("pending(six)")
    web.do("six.close(); four.close()")
    far.do("c.close()")


# --- SO_BINDTODEVICE ------------------------------------------------------------------------------


def test_devices_are_the_containers(web, native):
    for r in web, native:
        names = r("[n for _, n in socket.if_nameindex()]")
        assert sorted(names) == ["eth0", "lo"]
        for name in names:
            r.do(f"s = socket.socket(); s.setsockopt(1, 25, b'{name}')")
            assert r("s.getsockopt(1, 25, 16)") == name.encode() + b"\0"
            assert r("s.getsockopt(1, 62)") == r(f"socket.if_nametoindex('{name}')")
            r.do("s.setsockopt(1, 25, b'')")
            assert r("(s.getsockopt(1, 25, 16), s.getsockopt(1, 62))") == (b"", 0)
            r.do(f"s.setsockopt(1, 62, socket.if_nametoindex('{name}'))")
            assert r("s.getsockopt(1, 25, 16)") == name.encode() + b"\0"
            r.do("s.close()")
        for name in "uplink", "slim-vxlan", "nothing", "lol", "e":
            assert option_error(r, f"socket.socket().setsockopt(1, 25, b'{name}')") == "ENODEV"


def test_a_device_of_the_host_is_not_found(lab, web):
    links = json.loads(lab.host("h1", "ip", "-j", "link").stdout)
    own = set(web("[i for i, _ in socket.if_nameindex()]"))
    for link in links:
        if link["ifname"] not in ("lo", "eth0"):
            assert option_error(web, "socket.socket().setsockopt(1, 25, "
                                     f"b'{link['ifname']}')") == "ENODEV"
        if link["ifindex"] not in own:
            assert option_error(web, "socket.socket().setsockopt(1, 62, "
                                     f"{link['ifindex']})") == "ENODEV"
    assert len(links) >= 4


def test_listeners_by_device(lab, web, far):
    web.do("by = {}\n"
           "for d in b'lo', b'eth0':\n"
           "    s = by[d] = socket.socket(); s.setsockopt(1, 25, d); s.bind(('', 7010)); s.listen()")
    far.do(f"c = connect('{lab.ip('web')}', 7010)")
    assert web("accept(by[b'eth0'])[1]") == far("c.getsockname()")
    web.do("c = connect('127.0.0.1', 7010)")
    assert web("accept(by[b'lo'])[1][0]") == "127.0.0.1"
    assert web("[pending(s) for s in by.values()]") == [False, False]
    web.do("by[b'eth0'].close()")
    assert far(f"connect_error('{lab.ip('web')}', 7010)") == "ECONNREFUSED"
    web.do("by[b'lo'].close(); c.close()")
    far.do("c.close()")


def test_connecting_by_device(lab, web, far):
    far.do("l = listen('0.0.0.0', 7011)")
    web.do("s = socket.socket(); s.setsockopt(1, 25, b'eth0')\n"
           f"s.connect(('{lab.ip('far')}', 7011)); s.close()\n"
           "s = socket.socket(); s.setsockopt(1, 25, b'lo')")
    assert option_error(web, f"s.connect(('{lab.ip('far')}', 7011))") == "ETIMEDOUT"
    assert option_error(web, "s.connect(('127.0.0.1', 1))") == "ECONNREFUSED"
    web.do("s.close(); s = socket.socket(); s.setsockopt(1, 25, b'eth0')")
    assert option_error(web, "s.connect(('127.0.0.1', 1))") == "ETIMEDOUT"
    web.do("s.close()")
    far.do("l.close()")


def test_another_device_needs_a_capability(lab):
    """As natively: the first device anybody may choose, to change it takes CAP_NET_RAW."""
    code = ("import os, socket\nos.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(); s.setsockopt(1, 25, b'lo')\n"
            "try: s.setsockopt(1, 25, b'eth0')\n"
            "except OSError as e: print(e.errno)")
    for kind in lab.run, lab.plain:
        assert kind("h1", "drop", PYTHON, "-c", code).stdout.strip() == str(errno.EPERM)


# --- binding --------------------------------------------------------------------------------------


def test_bind_address_no_port(lab, web, native, far):
    far.do("l = listen('0.0.0.0', 7020)")
    own = lab.ip("web")
    web.do(f"s = socket.socket()\ns.setsockopt(0, 24, 1)\ns.bind(('{own}', 0))")
    assert web("s.getsockopt(0, 24)") == 1
    assert web("s.getsockname()") == (own, 0)
    assert option_error(web, f"s.bind(('{own}', 0))") == "EINVAL"
    web.do(f"s.connect(('{lab.ip('far')}', 7020))")
    name = web("s.getsockname()")
    assert name[0] == own and name[1]
    assert far("accept(l)[1]") == name
    web.do("s.close()")
    # Two of them, one address; and listen() has its port then.
    web.do("s = socket.socket(); s.setsockopt(0, 24, 1); s.bind(('127.0.0.1', 0)); s.listen()")
    address, port = web("s.getsockname()")
    assert address == "127.0.0.1" and port
    assert web(f"connect_error('127.0.0.1', {port})") == "connected"
    assert far(f"connect_error('{own}', {port})") == "ECONNREFUSED"
    web.do("s.close()")
    far.do("l.close()")


def test_port_range_of_a_socket(web):
    web.do("found = set()\n"
           "for _ in range(40):\n"
           "    s = socket.socket(); s.setsockopt(0, 51, struct.pack('I', 40003 << 16 | 40000))\n"
           "    s.bind(('', 0)); found.add(s.getsockname()[1]); s.close()")
    assert web("found") <= set(range(40000, 40004)) and len(web("found")) > 1
    assert option_error(web, "socket.socket().setsockopt(0, 51, struct.pack('I', 40000 << 16 | 40003))") == "EINVAL"
    web.do("held = [socket.socket() for _ in range(5)]\n"
           "for s in held: s.setsockopt(0, 51, struct.pack('I', 40003 << 16 | 40000))\n"
           "for s in held[:4]: s.bind(('', 0))")
    assert option_error(web, "held[4].bind(('', 0))") == "EADDRINUSE"
    web.do("for s in held: s.close()")


# --- what would show or change the host -----------------------------------------------------------


def test_original_destination(lab, web, far):
    """Of a connection whose host has connection tracking."""
    web.do("l = listen('0.0.0.0', 7030)")
    far.do(f"c = connect('{lab.ip('web')}', 7030)")
    web.do("a = l.accept()[0]")
    for remote, name in (web, "a"), (far, "c"):
        assert option_error(remote, f"{name}.getsockopt(0, 80, 16)") == "ENOPROTOOPT"
        # SO_PEERNAME is getpeername().
        raw = remote(f"{name}.getsockopt(1, 28, 16)")
        assert (socket.inet_ntoa(raw[4:8]), struct.unpack_from(">H", raw, 2)[0]) == \
            remote(f"{name}.getpeername()")
    web.do("a.close(); l.close()")
    far.do("c.close()")


def test_errors_of_the_underlay_stay_below(lab, web):
    """IP_RECVERR would hand out the ICMP error and who sent it."""
    lab.host("h1", "ip", "route", "add", "unreachable", "203.0.113.0/24")
    try:
        web.do("s = socket.socket(); s.setsockopt(0, 11, 1); s.setblocking(False)\n"
               "e = s.connect_ex(('203.0.113.1', 80))")
        assert web("s.getsockopt(0, 11)") == 1
        assert option_error(web, "s.recvmsg(100, 1000, socket.MSG_ERRQUEUE)") == "EAGAIN"
        web.do("s.close()")
    finally:
        lab.host("h1", "ip", "route", "del", "unreachable", "203.0.113.0/24")


def test_packet_information_is_never_recorded(lab, web, far):
    web.do(f"l = socket.socket({V6})\n"
           "for level, name in (0, 8), (0, 20), (41, 2), (41, 49), (41, 74), (41, 56):\n"
           "    l.setsockopt(level, name, 1)\n"
           "l.bind(('::', 7031)); l.listen()")
    far.do(f"c = connect('{lab.ip('web')}', 7031); c.send(b'x')")
    web.do("a = l.accept()[0]; a.recv(1)")
    assert web("[a.getsockopt(*o) for o in ((0, 8), (0, 20), (41, 2), (41, 49))]") == [1] * 4
    assert web("(a.getsockopt(0, 9, 200), a.getsockopt(41, 6, 200))") == (b"", b"")
    web.do("a.close(); l.close()")
    far.do("c.close()")


def test_fast_open(lab, web, far):
    far.do("l = socket.socket(); l.setsockopt(6, 23, 5); l.bind(('', 7040)); l.listen()")
    assert far("l.getsockopt(6, 23)") == 5
    for to in lab.ip("far"), "127.0.0.1":
        web.do("s = socket.socket()")
        assert option_error(web, f"s.sendto(b'x', 0x20000000, ('{to}', 7040))") == "EOPNOTSUPP"
        assert option_error(web, "s.connect(('127.0.0.1', 1))") == "ECONNREFUSED"
        web.do("s.close()")
    web.do(f"s = connect('{lab.ip('far')}', 7040); s.send(b'y')")
    assert far("l.accept()[0].recv(1)") == b"y"
    web.do("s.close()")
    far.do("l.close()")


def test_the_hosts_namespace_is_not_named(lab, web, native):
    for r in web, native:
        r.do("u = socket.socket(type=socket.SOCK_DGRAM); s = socket.socket()")
        assert r("s.getsockopt(1, 71, 8)") == r("u.getsockopt(1, 71, 8)")
        r.do("u.close(); s.close()")


def test_timestamping_without_devices(web):
    web.do("s = socket.socket()\ns.setsockopt(1, 37, 1 << 4 | 1 << 3 | 1 << 10 | 1 << 13)")
    assert web("s.getsockopt(1, 37)") == 1 << 4 | 1 << 3
    web.do("s.setsockopt(1, 37, 1 << 4 | 1 << 11)")
    assert web("s.getsockopt(1, 37)") == 1 << 4 | 1 << 11
    web.do("s.close()")


@pytest.mark.parametrize("by", ["option", "message"])
def test_a_time_stamp_without_the_packet(lab, web, far, by):
    """SOF_TIMESTAMPING_TX_SOFTWARE, which by default gives the headers as well."""
    far.do("l = listen('', 7050)")
    web.do(f"s = connect('{lab.ip('far')}', 7050)")
    if by == "option":
        web.do("s.setsockopt(1, 37, 1 << 1 | 1 << 4 | 1 << 8); s.send(b'x')")
    else:
        web.do("s.setsockopt(1, 37, 1 << 4)\n"
               "s.sendmsg([b'x'], [(1, 37, struct.pack('I', 1 << 1 | 1 << 8))])")
    for _ in range(2):  # when it was queued, and when it left
        web.do("p = select.poll(); p.register(s, 0); p.poll(20000)\n"
               "data, control, _, _ = s.recvmsg(2000, 2000, socket.MSG_ERRQUEUE)")
        assert web("data") == b""
        assert any(level == 1 and kind in (37, 65) for level, kind, _ in web("control"))
        assert not any(socket.inet_aton(f"192.0.2.{n}") in value
                       for _, _, value in web("control") for n in (1, 2))
    web.do("s.close()")
    far.do("l.close()")


def test_ulp(web, native):
    for name in b"espintcp", b"smc", b"mptcp", b"tlsx", b"tl":
        assert option_error(web, f"socket.socket().setsockopt(6, 31, {name})") == "ENOENT"
    said = [option_error(r, "socket.socket().setsockopt(6, 31, b'tls')") for r in (web, native)]
    assert said[0] == said[1]  # ENOENT where the kernel has none, else ENOTCONN


def test_ordinary_options_are_the_kernels(web, native):
    code = ("s = socket.socket()\n"
            "out = []\n"
            "for level, name, value in ((1, 9, 1), (6, 1, 1), (6, 4, 77), (6, 5, 11), (6, 6, 3),\n"
            "                           (6, 18, 5000), (1, 7, 30000), (1, 8, 40000), (6, 9, 3),\n"
            "                           (0, 1, 16), (0, 2, 33), (1, 60, 1), (1, 2, 1), (1, 15, 1)):\n"
            "    s.setsockopt(level, name, value); out.append(s.getsockopt(level, name))\n"
            "s.setsockopt(6, 13, b'reno'); out.append(s.getsockopt(6, 13, 16))\n"
            "s.setsockopt(1, 13, struct.pack('ii', 1, 5)); out.append(s.getsockopt(1, 13, 8))\n"
            "s.close()")
    for r in web, native:
        r.do(code)
    assert web("out") == native("out")
