# SPDX-License-Identifier: Apache-2.0
"""
Sockets of a Slim container that are not swapped: io_uring's own socket operation, 32-bit programs, raw
sockets, and those of a network namespace inside the container. They reach plain containers and their
like in other Slim containers by the encapsulated path, on the same host and on another.
"""

import itertools
import os
import pathlib

import pytest

from conftest import ROOT
from remote import AGENT, Moved, Remote

PROGRAMS = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build") / "tests" / "matrix"
URING, I386 = PROGRAMS / "matrix-uring", PROGRAMS / "matrix-i386"

# A program that serves says "ready"; one that connects ends. Both then exchange five bytes.
START = """
def start(*argv):
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)

def until_ready(p):
    said = []
    for line in p.stdout:
        said.append(line.strip())
        if said[-1] == 'ready':
            break
    return said

def end(p):
    said = p.stdout.read().split('\\n')[:-1]
    p.wait()
    return said

def serve(listener):
    # As the programs do; in a thread, since the interpreter has other things to do meanwhile.
    said = []
    def work():
        c, peer = listener.accept()
        said.append(peer[0])
        said.append(c.recv(5, socket.MSG_WAITALL).decode())
        c.sendall(b'hello')
        c.close()
    t = threading.Thread(target=work)
    t.start()
    return t, said
"""

PORTS = itertools.count(7001)  # one for each test: the one before has left its in TIME_WAIT

REACHED = {"uring": ["CONNECT ok", "SEND 5", "RECV hello"],
           "i386": ["socket ok", "connect ok", "write ok", "hello"]}
SERVED = {"uring": ["ACCEPT ok", "names agree", "SEND 5", "RECV hello"],
          "i386": ["accept ok", "hello", "write ok"]}
PROGRAM = {"uring": URING, "i386": I386}


@pytest.fixture(scope="module")
def parties(lab):
    """Interpreters in containers: slim1, near and plain1 on h1, slim2 and plain2 on h2."""
    with Remote.slim(lab, "h1", "slim1") as slim1, Remote.slim(lab, "h2", "slim2") as slim2, \
            Remote.slim(lab, "h1", "near") as near, Remote.plain(lab, "h1", "plain1") as plain1, \
            Remote.plain(lab, "h2", "plain2") as plain2:
        found = {r.name: r for r in (slim1, slim2, near, plain1, plain2)}
        for r in found.values():
            r.do(START)
        yield found


@pytest.mark.parametrize("to", ["plain1", "plain2", "near", "slim2"])
@pytest.mark.parametrize("kind", ["uring", "i386"])
def test_a_program_reaches_plain_and_swapped_listeners(lab, parties, kind, to):
    port = next(PORTS)
    server, client = parties[to], parties["slim1"]
    moved = Moved(lab, "h1")
    server.do(f"l = listen('0.0.0.0', {port}); t, said = serve(l)")
    client.do(f"p = start('{PROGRAM[kind]}', 'reach', '{lab.ip(to)}', '{port}')")
    assert client("end(p)") == REACHED[kind]
    server.do("t.join(); l.close()")
    assert server("said") == [lab.ip("slim1"), "hello"]
    # No SYN with an option was needed: it did not go the way of swapped sockets.
    assert moved("syn_accepted")["syn_accepted"] == 0


@pytest.mark.parametrize("to", ["slim1", "slim2"])
@pytest.mark.parametrize("kind", ["uring", "i386"])
def test_a_plain_container_reaches_a_program(lab, parties, kind, to):
    port = next(PORTS)
    server, client = parties[to], parties["plain1"]
    server.do(f"p = start('{PROGRAM[kind]}', 'wait', '{port}')")
    assert server("until_ready(p)")[-1] == "ready"
    client.do(f"s = connect('{lab.ip(to)}', {port}); s.sendall(b'hello')")
    assert client("s.recv(5, socket.MSG_WAITALL)") == b"hello"
    assert client("s.getpeername()") == (lab.ip(to), port)
    assert server("end(p)") == SERVED[kind]
    client.do("s.close()")


@pytest.mark.parametrize("client", ["uring", "i386"])
@pytest.mark.parametrize("server", ["uring", "i386"])
def test_programs_of_two_slim_containers(lab, parties, server, client):
    port = next(PORTS)
    slim1, slim2 = parties["slim1"], parties["slim2"]
    slim2.do(f"p = start('{PROGRAM[server]}', 'wait', '{port}')")
    assert slim2("until_ready(p)")[-1] == "ready"
    slim1.do(f"p = start('{PROGRAM[client]}', 'reach', '{lab.ip('slim2')}', '{port}')")
    assert slim1("end(p)") == REACHED[client]
    assert slim2("end(p)") == SERVED[server]


def test_x32_is_what_it_is_natively(lab, parties):
    """Of a kernel without x32, ENOSYS; of one that has it, a socket that is not swapped."""
    port = next(PORTS)
    native = lab.host("h1", URING, "x32").stdout
    assert parties["slim1"](f"end(start('{URING}', 'x32'))") == native.splitlines()
    if native == "made\n":
        server = parties["plain2"]
        server.do(f"l = listen('0.0.0.0', {port}); t, said = serve(l)")
        said = parties["slim1"](f"end(start('{URING}', 'reach32', '{lab.ip('plain2')}', '{port}'))")
        assert said == ["hello"]
        server.do("t.join(); l.close()")


def test_int_80_in_a_64_bit_program(parties):
    assert parties["slim1"](f"end(start('{URING}', 'int80'))") == ["made"]


# --- raw sockets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["plain1", "plain2", "slim2"])
def test_raw_sockets(lab, parties, to):
    """A protocol that only the two know, both ways."""
    s, c = parties[to], parties["slim1"]
    for r in s, c:
        r.do("r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)")
    c.do(f"r.sendto(b'raw', ('{lab.ip(to)}', 0))")
    data, peer = s("r.recvfrom(100)")
    assert (data[20:], peer[0]) == (b"raw", lab.ip("slim1"))
    s.do(f"r.sendto(b'back', ('{lab.ip('slim1')}', 0))")
    data, peer = c("r.recvfrom(100)")
    assert (data[20:], peer[0]) == (b"back", lab.ip(to))
    for r in s, c:
        r.do("r.close()")


def test_a_raw_socket_does_not_lie(lab, parties):
    """With a header of its own (IP_HDRINCL) and another's address: dropped, and counted."""
    s, c = parties["plain2"], parties["slim1"]
    s.do("r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)")
    c.do("r = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
         "def packet(source, to, data):\n"
         "    return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(data), 0, 0, 64, 253, 0,\n"
         "                       socket.inet_aton(source), socket.inet_aton(to)) + data")
    moved = Moved(lab, "h1")
    for source, data in (lab.ip("plain1"), b"lie"), (lab.ip("slim1"), b"truth"):
        c.do(f"r.sendto(packet('{source}', '{lab.ip('plain2')}', {data!r}), "
             f"('{lab.ip('plain2')}', 0))")
    assert s("r.recv(100)")[20:] == b"truth"
    assert moved("encap_spoofed") == {"encap_spoofed": 1}
    for r in s, c:
        r.do("r.close()")


def test_packet_sockets_see_the_container_alone(lab, parties):
    """What a packet socket in a Slim container sees is what passes its own devices."""
    watcher, other, far = parties["slim1"], parties["plain1"], parties["plain2"]
    watcher.do("w = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))")
    for r, port in (other, 7101), (watcher, 7102):
        far.do(f"u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('0.0.0.0', {port}))")
        r.do("s = socket.socket(type=socket.SOCK_DGRAM)\n"
             f"s.sendto(b'from {r.name}', ('{lab.ip('plain2')}', {port}))")
        assert far("u.recv(100)") == f"from {r.name}".encode()
        far.do("u.close()")
        r.do("s.close()")
    watcher.do("seen = b''\n"
               "while b'from slim1' not in seen: seen += w.recv(2000)\n"
               "w.close()")
    assert not watcher("b'from plain1' in seen")


# --- a namespace inside the container ------------------------------------------------------------------

# The container as a router for a namespace of its own, as a container engine in a container builds it.
NESTED = """
def sh(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)

child = subprocess.Popen(['unshare', '--net', sys.executable, '-c', AGENT_CODE],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
def inner(kind, code):
    child.stdin.write(json.dumps([kind, code]) + '\\n')
    child.stdin.flush()
    return json.loads(child.stdout.readline())

sh('ip', 'link', 'add', 'in0', 'type', 'veth', 'peer', 'name', 'out0', 'netns', str(child.pid))
sh('ip', 'addr', 'add', '172.31.7.1/24', 'dev', 'in0')
sh('ip', 'link', 'set', 'in0', 'up')
sh('nsenter', '--net=/proc/%d/ns/net' % child.pid, 'sh', '-ec',
   'ip link set lo up; ip addr add 172.31.7.2/24 dev out0; ip link set out0 up; '
   'ip route add default via 172.31.7.1')
with open('/proc/sys/net/ipv4/ip_forward', 'w') as f:
    f.write('1')
sh('nft', 'add table ip nested; add chain ip nested post { type nat hook postrouting priority 100; };'
          'add rule ip nested post ip saddr 172.31.7.0/24 oifname "eth0" masquerade')
"""


@pytest.fixture(scope="module")
def nested(lab, parties):
    slim1 = parties["slim1"]
    slim1.do(f"AGENT_CODE = {AGENT!r}")
    slim1.do(NESTED)
    yield slim1
    # Its end takes the namespace along, and with it both ends of the veth.
    slim1.do("child.stdin.close(); child.wait(); child.stdout.close()")


def test_nested_sockets_are_their_namespaces_own(nested):
    """Its loopback is not the container's, in either direction."""
    nested.do("l = listen('127.0.0.1', 7201)")
    assert nested("inner('eval', \"connect_error('127.0.0.1', 7201)\")")["value"] == "'ECONNREFUSED'"
    nested.do("inner('do', \"l = listen('0.0.0.0', 7202)\")")
    assert nested("connect_error('127.0.0.1', 7202)") == "ECONNREFUSED"
    assert nested("inner('eval', \"connect_error('127.0.0.1', 7202)\")")["value"] == "'connected'"
    nested.do("inner('do', 'l.close()'); l.close()")


@pytest.mark.parametrize("to", ["plain1", "plain2"])
def test_a_nested_namespace_reaches_plain_containers(lab, parties, nested, to):
    port = next(PORTS)
    server = parties[to]
    server.do(f"l = listen('0.0.0.0', {port}); t, said = serve(l)")
    said = nested(f"inner('do', \"s = connect('{lab.ip(to)}', {port}); s.sendall(b'hello')\")")
    assert "error" not in said
    assert nested("inner('eval', 's.recv(5, socket.MSG_WAITALL)')")["value"] == "b'hello'"
    assert nested("inner('eval', 's.getsockname()[0]')")["value"] == "'172.31.7.2'"
    nested.do("inner('do', 's.close()')")
    server.do("t.join(); l.close()")
    assert server("said") == [lab.ip("slim1"), "hello"]  # masqueraded by the container


def test_a_nested_namespace_by_udp(lab, parties, nested):
    port = next(PORTS)
    server = parties["plain2"]
    server.do(f"u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('0.0.0.0', {port}))")
    nested.do("inner('do', \"u = socket.socket(type=socket.SOCK_DGRAM); "
              f"u.sendto(b'nested', ('{lab.ip('plain2')}', {port}))\")")
    data, peer = server("u.recvfrom(100)")
    assert (data, peer[0]) == (b"nested", lab.ip("slim1"))
    server.do(f"u.sendto(b'back', {tuple(peer)!r})")
    assert nested("inner('eval', 'u.recv(100)')")["value"] == "b'back'"
    nested.do("inner('do', 'u.close()')")
    server.do("u.close()")
