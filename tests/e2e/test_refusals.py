# SPDX-License-Identifier: Apache-2.0
"""
What is refused, and with which errno: no listener, nobody at an address, a port that is taken, an
address that is another's, another network.
"""

import contextlib
import errno
import os
import signal
import uuid

import pytest

from conftest import wait_until
from remote import Moved, Remote

FAMILIES = [("socket.AF_INET", ""), ("socket.AF_INET6", "::ffff:")]


@pytest.fixture(scope="module")
def web(lab):
    with Remote.slim(lab, "h1", "web") as r:
        yield r


@pytest.fixture(scope="module")
def neighbour(lab):
    """On web's host."""
    with Remote.slim(lab, "h1", "neighbour") as r:
        yield r


@pytest.fixture(scope="module")
def far(lab):
    with Remote.slim(lab, "h2", "far") as r:
        yield r


@pytest.fixture(scope="module")
def everyone(web, neighbour, far):
    return web, neighbour, far


@pytest.mark.parametrize("family,prefix", FAMILIES)
def test_no_listener_is_refused(lab, everyone, family, prefix):
    for client in everyone:
        assert client(f"connect_error('{prefix}{lab.ip('web')}', 81, {family})") == "ECONNREFUSED"


def test_refused_to_a_program_that_does_not_block(lab, everyone):
    for client in everyone:
        client.do(f"s = socket.socket(); s.setblocking(False); "
                  f"r = s.connect_ex(('{lab.ip('web')}', 81))")
        # Within one host the reset is there before connect() returns.
        assert client("errno.errorcode[r]") in ("EINPROGRESS", "ECONNREFUSED")
        if client("errno.errorcode[r]") == "EINPROGRESS":
            assert client("select.select([], [s], [], 30)[1] == [s]")
            error = client("s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)")
            assert error == errno.ECONNREFUSED
        client.do("s.close()")


def test_the_same_socket_connects_after_a_refusal(lab, web, far):
    # Without a timeout: after one, Linux makes the next connect() fail with ECONNABORTED.
    far.do("s = socket.socket(); s.setblocking(True)")
    with pytest.raises(ConnectionRefusedError):
        far.do(f"s.connect(('{lab.ip('web')}', 82))")
    web.do("l = listen('0.0.0.0', 82)")
    far.do(f"s.connect(('{lab.ip('web')}', 82))")
    assert far("s.getpeername()") == (lab.ip("web"), 82)
    assert web("accept(l)[1:]") == (far("s.getsockname()"), far("names(s)[::-1]"))
    web.do("l.close()")
    far.do("s.close()")


def test_a_closed_listener_is_refused(lab, web, everyone):
    web.do("l = listen('0.0.0.0', 83)")
    for client in everyone:
        assert client(f"connect_error('{lab.ip('web')}', 83)") == "connected"
    web.do("l.close()")
    for client in everyone:
        assert client(f"connect_error('{lab.ip('web')}', 83)") == "ECONNREFUSED"


def test_bound_and_not_listening_is_refused(lab, web, everyone):
    web.do("b = socket.socket(); b.bind(('0.0.0.0', 84))")
    for client in everyone:
        assert client(f"connect_error('{lab.ip('web')}', 84)") == "ECONNREFUSED"
    web.do("b.close()")


@pytest.mark.parametrize("family,prefix", FAMILIES)
def test_nobody_is_unreachable_at_once(lab, everyone, family, prefix):
    ghost = lab.ip("ghost")  # a name, and nobody who has it
    for client in everyone:
        assert client(f"connect_error('{prefix}{ghost}', 80, {family})") == "EHOSTUNREACH"
        # At once: connect() itself says so, and not a wait for it.
        assert client(f"connect_error('{prefix}{ghost}', 80, {family}, False)") == "EHOSTUNREACH"


def test_nobody_is_counted(lab, far):
    moved = Moved(lab, "h2")
    far(f"connect_error('{lab.ip('ghost')}', 80)")
    assert moved() == {"connect_no_endpoint": 1}


def test_an_address_comes_and_goes(lab, far):
    ip = lab.ip("fleeting")
    assert far(f"connect_error('{ip}', 80)") == "EHOSTUNREACH"
    with Remote.slim(lab, "h1", "fleeting") as fleeting:
        assert far(f"connect_error('{ip}', 80)") == "ECONNREFUSED"
        fleeting.do("l = listen('0.0.0.0', 80)")
        assert far(f"connect_error('{ip}', 80)") == "connected"
    wait_until(lambda: far(f"connect_error('{ip}', 80)") == "EHOSTUNREACH",
               "the address of a container that ended to be nobody's")


def test_an_address_whose_end_is_not_heard_of_yet(lab, far):
    """A client's host may be late. Its client is told no later for that."""
    ip = lab.ip("fleeting")
    late = int(lab.verb("daemon", "h2", "pid").stdout)
    with Remote.slim(lab, "h1", "fleeting"):
        wait_until(lambda: far(f"connect_error('{ip}', 80)") == "ECONNREFUSED",
                   "the client's host to hear of the container")
        os.kill(late, signal.SIGSTOP)
    try:
        wait_until(lambda: all(e["name"] != "fleeting"
                               for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]),
                   "the container's end")
        moved = Moved(lab, "h1")
        assert far(f"connect_error('{ip}', 80)") == "ECONNREFUSED"
        assert moved() == {"syn_unknown_server": 1}
    finally:
        os.kill(late, signal.SIGCONT)
    wait_until(lambda: far(f"connect_error('{ip}', 80)") == "EHOSTUNREACH",
               "the address to be nobody's")


def test_a_taken_port(lab, web, neighbour):
    web.do("l = listen('0.0.0.0', 85)")
    moved = Moved(lab, "h1")
    assert web("bind_error('0.0.0.0', 85)") == "EADDRINUSE"
    assert web(f"bind_error('{lab.ip('web')}', 85)") == "EADDRINUSE"
    assert web("bind_error('::', 85, socket.AF_INET6)") == "EADDRINUSE"
    assert moved() == {"bind_in_use": 3}
    web.do("l.close()")
    assert web("bind_error('0.0.0.0', 85)") == "bound"


def test_one_port_in_two_containers_of_a_host(lab, web, neighbour, everyone):
    web.do("l = listen('0.0.0.0', 86)")
    neighbour.do("l = listen('0.0.0.0', 86)")
    for client in everyone:
        for server, name in (web, "web"), (neighbour, "neighbour"):
            client.do(f"s = connect('{lab.ip(name)}', 86)")
            client_name, server_name = client("names(s)")
            assert client_name[0] == lab.ip(client.name)
            assert server_name == (lab.ip(name), 86)
            assert server("accept(l)[1:]") == (client_name, (server_name, client_name))
            client.do("s.close()")
    web.do("l.close()")
    neighbour.do("l.close()")


def test_a_port_that_the_host_uses(lab, web, far):
    with Remote.host(lab, "h1") as host:
        host.do("l = listen('0.0.0.0', 87)")
        web.do("l = listen('0.0.0.0', 87)")
        far.do(f"s = connect('{lab.ip('web')}', 87)")
        assert web("accept(l)[1]") == far("s.getsockname()")
        assert not host("pending(l)")
        far.do("s.close(); s = connect('192.0.2.1', 87)")
        assert host("accept(l)[1][0]") == "192.0.2.2"
        assert not web("pending(l)")
    web.do("l.close()")
    far.do("s.close()")


def test_foreign_addresses(lab, web, everyone):
    foreign = [lab.ip("neighbour"), lab.ip("far"), lab.ip("ghost"), "192.0.2.1", "203.0.113.9",
               "169.254.1.1"]
    moved = Moved(lab, "h1")
    for address in foreign:
        assert web(f"bind_error('{address}', 88)") == "EADDRNOTAVAIL", address
        assert web(f"bind_error('{address}', 0)") == "EADDRNOTAVAIL", address
        assert web(f"bind_error('::ffff:{address}', 88, socket.AF_INET6)") == "EADDRNOTAVAIL"
    assert web("bind_error('2001:db8::1', 88, socket.AF_INET6)") == "EADDRNOTAVAIL"
    assert moved() == {"bind_foreign_address": 3 * len(foreign) + 1}
    for address in lab.ip("web"), "0.0.0.0", "127.0.0.1", "127.99.1.2":
        assert web(f"bind_error('{address}', 88)") == "bound", address
    for address in "::", "::1", f"::ffff:{lab.ip('web')}":
        assert web(f"bind_error('{address}', 88, socket.AF_INET6)") == "bound", address


@pytest.mark.parametrize("network_at", ["h1", "h2"])
def test_another_network_is_out_of_reach(lab, web, neighbour, far, network_at):
    network = "n" + uuid.uuid4().hex[:8]
    prefix = {"h1": "10.80.0.0/16", "h2": "10.81.0.0/16"}[network_at]
    lab.verb("ctl", "h1", "--", "network", "create", network, "--prefix", prefix)
    web.do("l = listen('0.0.0.0', 89); u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 89))")
    try:
        with contextlib.ExitStack() as stack:
            blue = stack.enter_context(Remote.slim(lab, network_at, "blue", network))
            other = stack.enter_context(Remote.slim(lab, "h1", "blue2", network))
            plain = stack.enter_context(Remote.plain(lab, network_at, "blue3", network))
            address = {name: e["address"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]
                       for name in [e["name"]] if e["network"] == network}

            # TCP, swapped or not, there and back.
            for client in blue, plain, other:
                assert client(f"connect_error('{lab.ip('web')}', 89)") == "EHOSTUNREACH"
            assert not web("pending(l)")
            for client in web, neighbour, far:
                for name in address:
                    assert client(f"connect_error('{address[name]}', 89)") == "EHOSTUNREACH"

            # Datagrams: the ICMP answer, and nothing that arrives.
            for client, to in ((blue, lab.ip("web")), (plain, lab.ip("web")),
                               (other, lab.ip("web")), (web, address["blue2"]),
                               (far, address["blue"])):
                assert client(f"udp_error('{to}', 89)") == "EHOSTUNREACH"
            assert not web("pending(u)")

            # Within the network all is well.
            other.do("l = listen('0.0.0.0', 89)")
            assert blue(f"connect_error('{address['blue2']}', 89)") == "connected"
            assert other("accept(l)[1][0]") == address["blue"]
    finally:
        web.do("l.close(); u.close()")
