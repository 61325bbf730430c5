# SPDX-License-Identifier: Apache-2.0
"""
What a container sets below its own /proc/sys/net counts for its sockets, as it does in a plain
container, though they are the host's; and the host's own does not.
"""

import contextlib
import errno

import pytest

from remote import Remote

V6 = "socket.AF_INET6"
KEEPALIVE = "[s.getsockopt(6, n) for n in (4, 5, 6)]"


def set_sysctl(name, value):
    return f"open('/proc/sys/net/{name}', 'w').write('{value}')\n"


@pytest.fixture
def web(lab):
    with Remote.slim(lab, "h1", "web") as r:
        yield r


@pytest.fixture
def native(lab):
    with Remote.plain(lab, "h1", "native") as r:
        yield r


@pytest.fixture(scope="module")
def far(lab):
    with Remote.slim(lab, "h2", "far") as r:
        yield r


@contextlib.contextmanager
def host_sysctl(lab, host, name, value):
    before = lab.host(host, "cat", f"/proc/sys/net/{name}").stdout.strip()
    lab.host(host, "sh", "-c", f"echo '{value}' > /proc/sys/net/{name}")
    try:
        yield
    finally:
        lab.host(host, "sh", "-c", f"echo '{before}' > /proc/sys/net/{name}")


def bind_as(remote, uid, port, address="", family="socket.AF_INET"):
    """The errno's name of bind() in a child of another user, who has no capabilities."""
    remote.do("r, w = os.pipe()\n"
              "if not os.fork():\n"
              "    try:\n"
              f"        os.setgid({uid}); os.setuid({uid})\n"
              f"        answer = bind_error('{address}', {port}, {family})\n"
              "        os.write(w, answer.encode())\n"
              "    finally:\n"
              "        os._exit(0)\n"
              "os.close(w); os.wait()")
    return remote("os.read(r, 100).decode()")


def test_privileged_ports(web, native):
    for r in web, native:
        assert bind_as(r, 65534, 80) == "EACCES"
        assert bind_as(r, 65534, 1023, "127.0.0.1") == "EACCES"
        assert bind_as(r, 65534, 80, "::", V6) == "EACCES"
        assert bind_as(r, 65534, 1024) == "bound"
        assert r("bind_error('', 80)") == "bound"
        r.do(set_sysctl("ipv4/ip_unprivileged_port_start", 70))
        assert bind_as(r, 65534, 80) == "bound"
        assert bind_as(r, 65534, 69) == "EACCES"
        r.do(set_sysctl("ipv4/ip_unprivileged_port_start", 2000))
        assert bind_as(r, 65534, 1999) == "EACCES"
        assert bind_as(r, 65534, 0) == "bound"


def test_privileged_ports_are_not_the_hosts(lab, web):
    with host_sysctl(lab, "h1", "ipv4/ip_unprivileged_port_start", 0):
        assert bind_as(web, 65534, 80) == "EACCES"
    with host_sysctl(lab, "h1", "ipv4/ip_unprivileged_port_start", 30000):
        assert bind_as(web, 65534, 8080) == "bound"


def test_a_user_namespace_below_has_no_such_port(web, native):
    """All capabilities, but not in the namespace that owns the container's network."""
    for r in web, native:
        code = ("import errno, os, socket, ctypes\\n"
                "os.setgid(65534); os.setuid(65534)\\n"
                "assert ctypes.CDLL(None).unshare(0x10000000) == 0\\n"
                "try: socket.socket().bind((chr(0)[:0], 80))\\n"
                "except OSError as e: print(errno.errorcode[e.errno])\\n")
        assert r(f"subprocess.run([sys.executable, '-c', '''{code}'''],"
                 "capture_output=True, text=True).stdout") == "EACCES\n"


def test_the_owner_of_a_user_namespace(web, native):
    """In a user namespace with its network namespace still the container's: no. With a bit of the
    effective set: yes."""
    for r in web, native:
        code = ("import ctypes, errno, os, socket, struct\\n"
                "libc = ctypes.CDLL(None)\\n"
                "libc.prctl(8, 1); os.setgid(65534); os.setuid(65534)\\n"
                "head = struct.pack('Ii', 0x20080522, 0)\\n"
                "def caps(bits): assert libc.capset(head, struct.pack('6I', bits, bits, 0, 0, 0, 0)) == 0\\n"
                "def say():\\n"
                "    try: socket.socket().bind(('', 80)); print('bound')\\n"
                "    except OSError as e: print(errno.errorcode[e.errno])\\n"
                "caps(1 << 10); say(); caps(0); say()\\n")
        assert r(f"subprocess.run([sys.executable, '-c', \"\"\"{code}\"\"\"],"
                 "capture_output=True, text=True).stdout") == "bound\nEACCES\n"


def test_port_range_of_bind(web, native):
    for r in web, native:
        r.do(set_sysctl("ipv4/ip_local_port_range", "20000 20007"))
        r.do("held = [socket.socket() for _ in range(9)]\n"
             "for s in held[:8]: s.bind(('', 0))")
        assert r("sorted(s.getsockname()[1] for s in held[:8])") == list(range(20000, 20008))
        with pytest.raises(OSError) as e:
            r.do("held[8].bind(('', 0))")
        assert e.value.errno == errno.EADDRINUSE
        r.do("held[3].close(); held[8].bind(('', 0))")
        r.do("for s in held: s.close()")


@pytest.mark.parametrize("to", ["far", "127.0.0.1"])
def test_port_range_of_connect(lab, web, far, to):
    host = lab.ip("far") if to == "far" else to
    listener = far if to == "far" else web
    listener.do("l = listen('', 7100)")
    web.do(set_sysctl("ipv4/ip_local_port_range", "21000 21015"))
    seen = set()
    for _ in range(20):
        web.do(f"s = connect('{host}', 7100)")
        name = web("s.getsockname()")
        assert 21000 <= name[1] <= 21015
        assert listener("accept(l)[1]") == name
        seen.add(name[1])
        web.do("s.close()")
    assert len(seen) > 1
    # Again after a failure, with the same socket.
    web.do("s = socket.socket(); s.settimeout(None)\n"
           f"try: s.connect(('{host}', 1))\nexcept ConnectionRefusedError: pass\n"
           f"s.connect(('{host}', 7100))")
    assert 21000 <= web("s.getsockname()[1]") <= 21015
    web.do("s.close()")
    web.do(f"held = [connect('{host}', 7100) for _ in range(16)]")
    assert web(f"connect_error('{host}', 7100)") == "EADDRNOTAVAIL"
    web.do("for s in held: s.close()")
    assert web(f"connect_error('{host}', 7100)") == "connected"
    listener.do("l.close()")


def test_port_range_of_the_host_is_not_seen(lab, web):
    with host_sysctl(lab, "h1", "ipv4/ip_local_port_range", "22000 23000"):
        web.do("s = socket.socket(); s.bind(('', 0))")
        assert web("s.getsockname()[1]") >= 32768
        web.do("s.close(); l = listen('', 7101); s = connect('127.0.0.1', 7101)")
        assert web("s.getsockname()[1]") >= 32768
        web.do("s.close(); l.close()")


def test_keepalive(lab, web, native, far):
    far.do("l = listen('', 7102)")
    for r in web, native:
        r.do("".join(set_sysctl(f"ipv4/tcp_keepalive_{n}", v)
                     for n, v in (("time", 61), ("intvl", 7), ("probes", 5))))
        r.do("s = socket.socket()")
        assert r(KEEPALIVE) == [61, 7, 5]
        r.do("s.setsockopt(6, 5, 9)")
        assert r(KEEPALIVE) == [61, 9, 5]
    web.do(f"s.connect(('{lab.ip('far')}', 7102))")
    assert web(KEEPALIVE) == [61, 9, 5]
    web.do("s.close(); l = listen('', 7103)")
    assert web("[l.getsockopt(6, n) for n in (4, 5, 6)]") == [61, 7, 5]
    far.do(f"c = connect('{lab.ip('web')}', 7103)")
    web.do("s = l.accept()[0]")
    assert web(KEEPALIVE) == [61, 7, 5]
    far.do("c.close(); l.close()")
    web.do("s.close(); l.close()")


def test_keepalive_works(lab, web, far):
    """The kernel's own timer goes by it, not only what getsockopt() shows."""
    far.do("l = listen('', 7104)")
    web.do("".join(set_sysctl(f"ipv4/tcp_keepalive_{n}", v)
                   for n, v in (("time", 3600), ("intvl", 60), ("probes", 5))))
    web.do(f"s = socket.socket(); s.setsockopt(1, 9, 1); s.connect(('{lab.ip('far')}', 7104))")
    timers = [line for line in lab.host("h1", "ss", "-tno").stdout.splitlines()
              if "timer:(keepalive," in line]
    # 3600 s less what has gone by since; the host's is two hours.
    assert any("59min" in line or "60min" in line for line in timers), timers
    web.do("s.close()")
    far.do("l.close()")


def test_keepalive_of_the_host_is_not_seen(lab, web):
    with host_sysctl(lab, "h1", "ipv4/tcp_keepalive_time", 33):
        web.do("s = socket.socket()")
        assert web(KEEPALIVE) == [7200, 75, 9]
        web.do("s.bind(('', 0))")
        assert web(KEEPALIVE) == [7200, 75, 9]
        web.do("s.close()")


def test_congestion_control(lab, web, native, far):
    far.do("l = listen('', 7105)")
    default = native("open('/proc/sys/net/ipv4/tcp_congestion_control').read().strip()")
    other = {"reno": "cubic"}.get(default, "reno")
    get = "s.getsockopt(6, 13, 16).rstrip(b'\\0').decode()"
    for r in web, native:
        r.do("s = socket.socket()")
        assert r(get) == default
        r.do("s.close()")
        r.do(set_sysctl("ipv4/tcp_congestion_control", other) + "s = socket.socket()")
        assert r(get) == other
    web.do(f"s.connect(('{lab.ip('far')}', 7105))")
    assert web(get) == other
    assert any(f" {other} " in line
               for line in lab.host("h1", "ss", "-tniH").stdout.splitlines())
    web.do("s.close(); s = socket.socket()")
    # One that fails leaves what there was.
    with pytest.raises(OSError) as e:
        web.do("s.setsockopt(6, 13, b'nothing')")
    assert e.value.errno == errno.ENOENT
    assert web(get) == other
    web.do(f"s.setsockopt(6, 13, b'{default}')\ns.connect(('{lab.ip('far')}', 7105))")
    assert web(get) == default
    web.do("s.close()")
    far.do("l.close()")


def test_bindv6only(lab, web, native, far):
    for r in web, native:
        r.do(set_sysctl("ipv6/bindv6only", 1) + f"s = socket.socket({V6})")
        assert r("s.getsockopt(41, 26)") == 1
        r.do("s.bind(('::', 7106)); s.listen()")
        assert r("bind_error('0.0.0.0', 7106)") == "bound"
        assert r("connect_error('127.0.0.1', 7106)") == "ECONNREFUSED"
        assert r(f"connect_error('::1', 7106, {V6})") == "connected"
        r.do(f"s.close(); s = socket.socket({V6}); s.setsockopt(41, 26, 0)")
        r.do("s.bind(('::', 7106)); s.listen()")
        assert r("connect_error('127.0.0.1', 7106)") == "connected"
        r.do("s.close()")
