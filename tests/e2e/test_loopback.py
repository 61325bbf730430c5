# SPDX-License-Identifier: Apache-2.0
"""
127.0.0.0/8, ::1 and localhost in a container are that container alone; and containers of one host,
and a container with itself, talk by their overlay addresses.
"""

import pytest

from remote import Remote

V6 = "socket.AF_INET6"


@pytest.fixture(scope="module")
def one(lab):
    with Remote.slim(lab, "h1", "one") as r:
        yield r


@pytest.fixture(scope="module")
def two(lab):
    """On one's host."""
    with Remote.slim(lab, "h1", "two") as r:
        yield r


@pytest.fixture(scope="module")
def far(lab):
    with Remote.slim(lab, "h2", "far") as r:
        yield r


@pytest.fixture(scope="module")
def host(lab):
    with Remote.host(lab, "h1") as r:
        yield r


LOOPBACKS = [("127.0.0.1", "socket.AF_INET"), ("127.0.0.2", "socket.AF_INET"),
             ("127.9.8.7", "socket.AF_INET"), ("::1", V6), ("::ffff:127.0.0.1", V6)]


@pytest.mark.parametrize("address,family", LOOPBACKS)
def test_a_loopback_listener(lab, one, two, far, host, address, family):
    one.do(f"l = listen('{address}', 7000, {family})")
    assert one("l.getsockname()[:2]") == (address, 7000)
    # Its own container reaches it, and both ends have real loopback addresses and the container's ports.
    one.do(f"s = connect('{address}', 7000, {family})")
    name, peer = one("names(s)")
    assert peer == (address, 7000)
    source = {"127.0.0.2": "127.0.0.1", "127.9.8.7": "127.0.0.1"}.get(address, address)
    assert name[0] == source and name[1] not in (0, 7000)
    assert one("accept(l)[1:]") == (name, (peer, name))
    one.do("s.close()")
    # No other address of the container is it,
    own = lab.ip("one")
    others = {"127.0.0.1", "127.0.0.2", "127.9.8.7", own} - {address.removeprefix("::ffff:")}
    for other in others:
        assert one(f"connect_error('{other}', 7000)") == "ECONNREFUSED", other
    if address != "::1":
        assert one(f"connect_error('::1', 7000, {V6})") == "ECONNREFUSED"
    # and nobody else reaches it: by its overlay address,
    for other in two, far:
        assert other(f"connect_error('{own}', 7000)") == "ECONNREFUSED"
    # or by the loopback address, which is another's there.
    for other in two, far, host:
        assert other(f"connect_error('{address}', 7000, {family})") == "ECONNREFUSED"
    assert not one("pending(l)")
    one.do("l.close()")
    assert one(f"connect_error('{address}', 7000, {family})") == "ECONNREFUSED"


@pytest.mark.parametrize("address,family", LOOPBACKS)
def test_a_wildcard_listener_is_on_loopback(one, address, family):
    for any_address, listener_family in ("0.0.0.0", "socket.AF_INET"), ("::", V6):
        if any_address == "0.0.0.0" and address == "::1":
            continue
        one.do(f"l = listen('{any_address}', 7001, {listener_family}); "
               f"s = connect('{address}', 7001, {family})")
        port = one("s.getsockname()[1]")
        accepted = one("accept(l)[1]")
        assert accepted[0].endswith("127.0.0.1") or accepted[0] == "::1"
        assert accepted[1] == port
        one.do("s.close(); l.close()")


def test_the_unspecified_address_is_this_container(one, host):
    host.do("h = listen('0.0.0.0', 7002)")
    assert one("connect_error('0.0.0.0', 7002)") == "ECONNREFUSED"
    assert one(f"connect_error('::', 7002, {V6})") == "ECONNREFUSED"
    one.do("l = listen('0.0.0.0', 7002); s = connect('0.0.0.0', 7002)")
    assert one("names(s)[1]") == ("127.0.0.1", 7002)
    assert one("accept(l)[1]") == one("s.getsockname()")
    assert not host("pending(h)")
    one.do("s.close(); l.close()")
    host.do("h.close()")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_localhost_by_name(one, name):
    one.do(f"l = listen('localhost', 7003); s = socket.create_connection(('{name}', 7003))")
    assert one("accept(l)[1]") == one("s.getsockname()")
    one.do("s.close(); l.close()")


def test_the_hosts_servers_are_not_there(lab, one, two, host):
    """On its loopback, on its every address: not on the container's loopback."""
    host.do("hs = [listen('127.0.0.1', 7010), listen('0.0.0.0', 7011), listen('127.0.0.2', 7012),\n"
            f"      listen('::1', 7013, {V6}), listen('::', 7014, {V6})]")
    # They do serve,
    for i, (address, port, family) in enumerate((("127.0.0.1", 7010, "socket.AF_INET"),
                                                 ("127.0.0.1", 7011, "socket.AF_INET"),
                                                 ("127.0.0.2", 7012, "socket.AF_INET"),
                                                 ("::1", 7013, V6), ("::1", 7014, V6))):
        assert host(f"connect_error('{address}', {port}, {family})") == "connected"
        host.do(f"hs[{i}].accept()[0].close()")
    # the host,
    for container in one, two:
        for port in range(7010, 7015):
            for address, family in LOOPBACKS:
                said = container(f"connect_error('{address}', {port}, {family})")
                assert said == "ECONNREFUSED", (address, port)
            assert container(f"connect_error('{lab.ip(container.name)}', {port})") == "ECONNREFUSED"
    assert not host("any(pending(h) for h in hs)")
    # and not in the way of the container's own.
    for port in range(7010, 7015):
        one.do(f"l = listen('127.0.0.1', {port}); s = connect('127.0.0.1', {port})")
        assert one("accept(l)[1]") == one("s.getsockname()")
        one.do("s.close(); l.close()")
    assert not host("any(pending(h) for h in hs)")
    host.do("for h in hs: h.close()")


def test_another_containers_servers_are_not_there(one, two):
    two.do("ls = [listen('127.0.0.1', 7020), listen('0.0.0.0', 7021), "
           f"listen('::', 7022, {V6}), listen('::1', 7023, {V6})]")
    for port in range(7020, 7024):
        for address, family in LOOPBACKS:
            assert one(f"connect_error('{address}', {port}, {family})") == "ECONNREFUSED"
    # Side by side, on the same port.
    one.do("l = listen('127.0.0.1', 7020)")
    for container, listener in (one, "l"), (two, "ls[0]"):
        container.do("s = connect('127.0.0.1', 7020)")
        assert container(f"accept({listener})[1]") == container("s.getsockname()")
        container.do("s.close()")
    assert not two("any(pending(l) for l in ls)")
    assert not one("pending(l)")
    two.do("for l in ls: l.close()")
    one.do("l.close()")


def test_a_bound_client_on_loopback(one):
    one.do("l = listen('127.0.0.1', 7030); "
           "s = connect('127.0.0.1', 7030, source=('127.0.0.3', 2347))")
    assert one("names(s)") == (("127.0.0.3", 2347), ("127.0.0.1", 7030))
    assert one("accept(l)[1:]") == (("127.0.0.3", 2347),
                                    (("127.0.0.1", 7030), ("127.0.0.3", 2347)))
    one.do("s.close(); l.close()")


def test_other_programs_of_the_container(lab, one):
    """A second process, and a bound socket without a listener, by loopback and overlay address."""
    code = ("import socket\n"
            "for a in '127.0.0.1', %r:\n"
            "    s = socket.create_connection((a, 7031)); print(*s.getsockname(), *s.getpeername())"
            % lab.ip("one"))
    one.do(f"l = listen('0.0.0.0', 7031)\ncode = {code!r}\n"
           "p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)")
    lines = one("p.stdout.split('\\n')")
    for line, address in zip(lines, ("127.0.0.1", lab.ip("one"))):
        client, client_port, server, server_port = line.split()
        assert (client, server, server_port) == (address, address, "7031")
        assert one("accept(l)[1]") == (address, int(client_port))
    one.do("l.close()")


def test_overlay_to_itself_and_to_a_neighbour(lab, one, two):
    one.do("l = listen('0.0.0.0', 7040)")
    for client in one, two:
        client.do(f"s = connect('{lab.ip('one')}', 7040)")
        name, peer = client("names(s)")
        assert (name[0], peer) == (lab.ip(client.name), (lab.ip("one"), 7040))
        one.do("c, a = l.accept()")
        assert one("names(c)") == (peer, name) and one("a") == name
        # Bytes, both ways, more than one segment's.
        client.do("t = threading.Thread(target=s.sendall, args=(b'x' * (1 << 20),)); t.start()")
        assert one("len(c.makefile('rb').read(1 << 20))") == 1 << 20
        client.do("t.join()")
        one.do("c.sendall(b'y' * 70000); c.close()")
        assert client("len(s.makefile('rb').read())") == 70000
        client.do("s.close()")
    one.do("l.close()")


def test_datagrams_on_loopback_stay_too(one, two, host):
    for r in one, two, host:
        r.do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('127.0.0.1', 7050)); "
             "d = socket.socket(type=socket.SOCK_DGRAM); d.bind(('127.0.0.1', 7051)); "
             "d.sendto(b'mine', ('127.0.0.1', 7050))")
    for r in one, two, host:
        assert r("u.recvfrom(9)") == (b"mine", ("127.0.0.1", 7051))
        assert not r("pending(u)")
        r.do("u.close(); d.close()")
