# SPDX-License-Identifier: Apache-2.0
"""ioctl(), and what else shows interfaces and sockets."""

from registry import LOCAL, case, group

group("ioctl(), /proc/net, netlink")

FIONBIO, FIONREAD, FIOASYNC, FIOSETOWN, FIOGETOWN = 0x5421, 0x541B, 0x5452, 0x8901, 0x8903
SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK = 0x5411, 0x894B, 0x8905


@case("FIONBIO, FIOASYNC", LOCAL)
def modes(t):
    s = t.server.socket(t.family, 1)
    return [t.server.ioctl_set(s, FIONBIO, 1), t.server.getfl(s), t.server.ioctl_set(s, FIONBIO, 0),
            t.server.getfl(s), t.server.ioctl_set(s, FIOASYNC, 1), t.server.getfl(s)]


@case("FIONREAD: how much there is to read")
def readable(t):
    c, s = t.connected()
    said = [t.server.ioctl_int(s, FIONREAD), c.send(b"abcde"), t.server.wait(s, 1)]
    return [*said, t.server.ioctl_int(s, FIONREAD), s.recv(2), t.server.ioctl_int(s, FIONREAD)]


@case("{name} of a listener", LOCAL, name={"FIONREAD": FIONREAD, "SIOCOUTQ": SIOCOUTQ,
                                          "SIOCATMARK": SIOCATMARK, "SIOCOUTQNSD": SIOCOUTQNSD})
def of_listener(t, name):
    return [t.server.ioctl_int(t.listen(), name)]


@case("SIOCOUTQ, SIOCOUTQNSD when all has arrived")
def queues(t):
    c, s = t.connected()
    c.send(b"abcde")
    s.recv(5)
    s.send(b"x")  # its packet brings the acknowledgement along
    c.recv(1)
    return [t.client.ioctl_int(c, SIOCOUTQ), t.client.ioctl_int(c, SIOCOUTQNSD)]


@case("FIOSETOWN, FIOGETOWN", LOCAL)
def owner(t):
    s = t.server.socket(t.family, 1)
    return [t.server.ioctl_int(s, FIOGETOWN), t.server.ioctl_set(s, FIOSETOWN, 1),
            t.server.ioctl_int(s, FIOGETOWN)]


@case("an unknown ioctl: {number}", LOCAL, number={"0x1234": 0x1234, "TCGETS": 0x5401,
                                                  "SIOCPROTOPRIVATE": 0x89E0, "SIOCDEVPRIVATE": 0x89F0,
                                                  "0": 0})
def unknown(t, number):
    return [t.server.ioctl_int(t.server.socket(t.family, 1), number)]


REQUESTS = {"SIOCGIFNAME": 0x8910, "SIOCGIFFLAGS": 0x8913, "SIOCGIFADDR": 0x8915,
            "SIOCGIFDSTADDR": 0x8917, "SIOCGIFBRDADDR": 0x8919, "SIOCGIFNETMASK": 0x891B,
            "SIOCGIFMETRIC": 0x891D, "SIOCGIFMTU": 0x8921, "SIOCGIFHWADDR": 0x8927,
            "SIOCGIFINDEX": 0x8933, "SIOCGIFTXQLEN": 0x8942, "SIOCGIFMAP": 0x8970,
            "SIOCETHTOOL": 0x8946, "SIOCGMIIPHY": 0x8947, "SIOCGARP": 0x8954, "SIOCGIFBR": 0x8940}


@case("{name} of the own device", LOCAL, name=REQUESTS)
def device(t, name):
    return [t.server.ifreq(t.server.socket(t.family, 1), name, t.server.interface())]


@case("{name} of lo", LOCAL, name={"SIOCGIFADDR": 0x8915, "SIOCGIFINDEX": 0x8933,
                                  "SIOCGIFFLAGS": 0x8913})
def loopback(t, name):
    return [t.server.ifreq(t.server.socket(t.family, 1), name, "lo")]


@case("SIOCGIFINDEX of a device that is not there", LOCAL)
def no_device(t):
    return [t.server.ifreq(t.server.socket(t.family, 1), 0x8933, "nosuchdev0")]


@case("SIOCGSKNS is the process's own namespace, {family}", LOCAL, family={"AF_INET": 2, "AF_INET6": 10})
def namespace(t, family):
    return [t.server.namespace_of(t.server.socket(family, 1))]


@case("{name} of a device that is not there", LOCAL, name={
    "SIOCSIFFLAGS": 0x8914, "SIOCSIFMTU": 0x8922, "SIOCSIFADDR": 0x8916, "SIOCSIFNAME": 0x8923,
    "SIOCSIFTXQLEN": 0x8943, "SIOCSIFHWADDR": 0x8924})
def no_such_device(t, name):
    return [t.server.ifreq(t.server.socket(t.family, 1), name, "nosuchdev0")]


@case("SIOCSIFFLAGS of lo by a user without privileges", LOCAL)
def unprivileged(t):
    return [t.server.as_user(65534, "ioctl")]


@case("SIOCGIFCONF: the list of interfaces, {family}", LOCAL, family={"AF_INET": 2, "AF_INET6": 10})
def interfaces(t, family):
    return [t.server.interface_list(t.server.socket(family, 1))]


@case("/proc/net/tcp has {what}", LOCAL, what=["a listener", "a connection"])
def proc(t, what):
    s = t.listen() if what == "a listener" else t.connected()[0]
    return [t.server.proc_net(s, "tcp")]


@case("/proc/net/tcp has a listener of another container of the host", LOCAL)
def proc_foreign(t):
    # Natively that is a program of the same namespace.
    s = t.beside.socket(t.family, 1)
    s.bind((t.any, t.port3))
    s.listen(1)
    return [t.server.proc_has_port(t.port3)]


@case("sock_diag has {what}, under its name", LOCAL, what=["a listener", "a connection"])
def diag(t, what):
    if what == "a listener":
        t.listen()
        return [t.server.diag_ports(t.port)]
    c, _ = t.connected()
    return [t.server.diag_ports(t.port)]


@case("getifaddrs() is of the own namespace: the own address is there", LOCAL)
def addresses(t):
    return [t.server.has_address(t.own)]


@case("if_nametoindex(\"lo\")", LOCAL)
def lo_index(t):
    return [t.server.lo_index()]
