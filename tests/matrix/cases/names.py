# SPDX-License-Identifier: Apache-2.0
"""getsockname() and getpeername(), before and after each step, for both families."""

from registry import LOCAL, REMOTE, V4, case, group

group("getsockname() and getpeername()")

V6 = ("remote6", "own6", "loopback6")


@case("names at each step, {server} server and {client} client", V4, server={
    "AF_INET": 2, "AF_INET6": 10}, client={"AF_INET": 2, "AF_INET6": 10})
def steps(t, server, client):
    return at_each_step(t, server, client)


@case("names at each step, by IPv6", V6)
def steps6(t):
    return at_each_step(t, 10, 10)


def at_each_step(t, server, client):
    listener = t.server.socket(server, 1)
    said = [t.server.both_names(listener)]
    listener.bind(("0.0.0.0" if server == 2 else "::", t.port))
    said.append(t.server.both_names(listener))
    listener.listen(1)
    said.append(t.server.both_names(listener))
    c = t.client.socket(client, 1)
    said.append(t.client.both_names(c))
    c.connect(t.to6 if client > t.family else t.to)
    said.append(t.client.both_names(c))
    s, peer = listener.accept()
    said += [peer, t.server.both_names(s)]
    c.shutdown(1)
    s.recv(1)
    said += [t.client.both_names(c), t.server.both_names(s)]
    s.shutdown(1)
    c.recv(1)
    return [*said, t.client.both_names(c), t.server.both_names(s)]


@case("names when the {who} has reset the connection", who=["server", "client"])
def reset(t, who):
    c, s = t.connected()
    ends = {"client": (t.client, c), "server": (t.server, s)}
    ends[who][1].setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
    ends[who][1].close()
    party, other = ends["server" if who == "client" else "client"]
    return [other.recv(1), party.both_names(other)]


@case("names after a refused connect() of a bound socket")
def refused(t):
    c = t.client.socket(t.family, 1)
    c.bind((t.any, t.port2))
    return [c.connect(t.to), t.client.both_names(c)]


@case("names while connect() waits", REMOTE)
def waiting(t):
    t.listen(0)
    held = [t.client.socket(t.family, 1 | 0o4000) for _ in range(3)]
    for c in held:
        c.connect(t.to)
    return [t.client.both_names(held[2])]


@case("{call} into {room} bytes", V4, call=["getsockname", "getpeername"], room=[0, 1, 7, 8, 15, 16, 17])
def room(t, call, room):
    c, _ = t.connected()
    return list(t.client.name_raw(call, c, room))


@case("{call} into -1 bytes", LOCAL, call=["getsockname", "getpeername"])
def negative(t, call):
    c, _ = t.connected()
    return [t.client.name_raw(call, c, -1)]


@case("the server's accept() and the client's getsockname() agree, 20 times")
def agree(t):
    listener = t.listen(32)
    good = 0
    for _ in range(20):
        c = t.client.socket(t.family, 1)
        c.connect(t.to)
        s, peer = listener.accept()
        good += peer == c.getsockname() == s.getpeername() and s.getsockname() == c.getpeername()
    return [good]


@case("no two clients have one name, 20 at once")
def distinct(t):
    t.listen(32)
    held = [t.client.socket(t.family, 1) for _ in range(20)]
    for c in held:
        c.connect(t.to)
    return [len({c.getsockname() for c in held})]
