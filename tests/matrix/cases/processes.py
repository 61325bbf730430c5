# SPDX-License-Identifier: Apache-2.0
"""Sockets that are shared, inherited and handed on."""

from registry import LOCAL, V4, case, group

group("fork, exec, SCM_RIGHTS, threads")


@case("fork(): the child uses its parent's connection")
def fork(t):
    c, s = t.connected()
    # The peer has sent already, since nobody would be there to answer the child.
    return [s.send(b"parent"), t.client.use_in_child(c), s.recv(5)]


@case("fork(): the child closes its copy, the parent's stays open")
def fork_close(t):
    c, s = t.connected()
    return [t.client.close_in_child(c), c.send(b"open"), s.recv(4)]


@case("fork(): a listener of a child that ends is gone", V4)
def fork_listener(t):
    said = [t.server.listen_in_child(t.port)]
    s = t.server.socket(t.family, 1)
    return [*said, t.client.socket(t.family, 1).connect(t.to), s.bind((t.any, t.port))]


@case("exec: names of an inherited connection")
def execute(t):
    c, s = t.connected()
    return [t.client.names_after_exec(c), s.recv(4)]


@case("exec: an inherited listener serves")
def exec_listener(t):
    s = t.listen()
    said = [t.server.listen_after_exec(s)]
    c = t.client.socket(t.family, 1)
    said.append(c.connect(t.to))
    return [*said, t.server.served_name(), c.recv(6), t.client.both_names(c)]


@case("exec: O_CLOEXEC closes, without it the socket stays", LOCAL)
def cloexec(t):
    s = t.server.socket(t.family, 1)
    return [t.server.open_after_exec(s, False), t.server.open_after_exec(s, True)]


@case("dup(): both are one socket")
def dup(t):
    c, s = t.connected()
    d = c.dup()
    return [d.getsockname() == c.getsockname(), c.close(), d.send(b"dup"), s.recv(3),
            t.client.both_names(d)]


@case("dup2() of a connection over a listener")
def dup2(t):
    listener = t.listen()
    c, s = t.connected(listener)
    again = t.server.socket(t.family, 1)
    said = [t.server.dup2(s, listener), c.send(b"dup2"), listener.recv(4)]
    # The listener's last descriptor went.
    return [*said, t.client.socket(t.family, 1).connect(t.to), again.bind((t.any, t.port))]


@case("pidfd_getfd() of a socket: names and data")
def pidfd(t):
    c, s = t.connected()
    d = t.client.pidfd_copy(c)
    return [d if isinstance(d, str) else t.client.both_names(d), d.send(b"pidfd"), s.recv(5)]


@case("SCM_RIGHTS to a child: the names are the same")
def rights_child(t):
    c, _ = t.connected()
    return [t.client.fd_through_fork(c)]


def box(t):
    return f"{t.world.directory}/{t.world.kind}-{t.port}"


@case("SCM_RIGHTS to another container: a new socket is its maker's", LOCAL)
def rights_new(t):
    inbox = t.beside.fd_box(box(t))
    s = t.server.socket(t.family, 1)
    said = [t.server.send_fd(box(t), s)]
    other = t.beside.receive_fd(inbox)
    s.close()
    # It binds to the maker's address and serves there.
    said += [other.bind((t.server.address, t.port)), other.listen(1), other.getsockname()]
    c = t.world.client.socket(t.family, 1)
    said.append(c.connect((t.server.address, t.port)))
    a = other.accept()
    return [*said, a[1] == c.getsockname(), t.beside.both_names(a[0])[0]]


@case("SCM_RIGHTS to another container: an open connection", LOCAL)
def rights_connection(t):
    listener = t.listen()
    c = t.world.client.socket(t.family, 1)
    c.connect((t.server.address, t.port))
    s = listener.accept()[0]
    inbox = t.beside.fd_box(box(t))
    said = [t.server.send_fd(box(t), s)]
    other = t.beside.receive_fd(inbox)
    s.close()
    return [*said, t.beside.both_names(other), other.send(b"passed"), c.recv(6), other.close(),
            c.recv(1)]


@case("SCM_RIGHTS to another container: a listener, and its maker ends its own copy", LOCAL)
def rights_listener(t):
    listener = t.listen()
    inbox = t.beside.fd_box(box(t))
    said = [t.server.send_fd(box(t), listener)]
    other = t.beside.receive_fd(inbox)
    listener.close()
    c = t.world.client.socket(t.family, 1)
    said += [c.connect((t.server.address, t.port)), other.accept()[1] == c.getsockname()]
    s = t.server.socket(t.family, 1)
    return [*said, s.bind((t.any, t.port)), other.close(), s.bind((t.any, t.port))]


@case("SCM_RIGHTS to another container: the new owner connects as the maker", LOCAL)
def rights_connect(t):
    listener = t.world.client.socket(t.family, 1)
    listener.bind((t.any, t.port))
    listener.listen(1)
    inbox = t.beside.fd_box(box(t))
    s = t.server.socket(t.family, 1)
    said = [t.server.send_fd(box(t), s)]
    other = t.beside.receive_fd(inbox)
    said.append(other.connect((t.world.client.address, t.port)))
    return [*said, listener.accept()[1], t.beside.both_names(other)]


@case("a child in a new network namespace has sockets of its own", LOCAL)
def nested(t):
    t.listen()
    return [t.server.in_new_netns(t.port)]


@case("a socket made before its process leaves the namespace", LOCAL)
def before_unshare(t):
    t.listen()
    return [t.server.made_before_unshare(t.port)]
