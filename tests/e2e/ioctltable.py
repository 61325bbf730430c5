# SPDX-License-Identifier: Apache-2.0
"""
A program, not a test: tries every ioctl() number of sockets and wireless devices, on sockets of
several kinds, and prints what came back, as JSON. test_ioctl.py runs it in a Slim container and in a
plain one, where the kernel itself answers.

    ioctltable.py OWN_ADDRESS
"""

import ctypes
import errno
import json
import os
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
OWN = socket.inet_aton(sys.argv[1]).hex()

# What sets something is tried by somebody who may not: nothing changes, and who may is test_ioctl.py's.
NOBODY = 65534

KINDS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
}


def call(fd, number, name, rest=b""):
    """What ioctl() says, and the memory that it was given if that changed. Addresses of its own are
    the same in all containers."""
    buffer = ctypes.create_string_buffer(name.ljust(16, b"\0") + rest, 256)
    before = buffer.raw
    r = LIBC.ioctl(ctypes.c_int(fd), ctypes.c_ulong(number), ctypes.byref(buffer))
    said = errno.errorcode[ctypes.get_errno()] if r < 0 else r
    changed = buffer.raw[:40].hex().replace(OWN, "<own>") if buffer.raw != before else ""
    return [said, changed]


def numbers():
    yield from range(0x8900, 0x8a00)
    # Drivers' own wireless ones are 0x8be0 and up; a few stand for all of each.
    yield from (0x8b00, 0x8b01, 0x8b1b, 0x8b2a, 0x8bdf, 0x8be0, 0x8bff)


os.setresuid(NOBODY, NOBODY, 0)
table = {}
for kind, (family, of_type) in KINDS.items():
    with socket.socket(family, of_type) as s:
        for name in (b"eth0", b"lo", b"uplink", b"", b"eth0:1", b"0123456789abcdef"):
            for number in numbers():
                if number == 0x894c:
                    continue  # SIOCGSKNS: its answer is a descriptor
                key = f"{kind} {number:#x} {name.decode()}"
                table[key] = call(s.fileno(), number, name)
for what, fd in (("file", os.open("/dev/null", os.O_RDONLY)), ("none", 999),
                 ("pipe", os.pipe()[0])):
    for number in numbers():
        table[f"{what} {number:#x}"] = call(fd, number, b"eth0")
# By index, and to an address that is not there.
with socket.socket() as s:
    for index in (1, 2, 3, 77):
        table[f"name of {index}"] = call(s.fileno(), 0x8910, b"", index.to_bytes(4, "little"))
    for number in (0x8913, 0x8912, 0x8946, 0x8954, 0x890b, 0x89f0, 0x8b01):
        r = LIBC.ioctl(s.fileno(), ctypes.c_ulong(number), ctypes.c_void_p(8))
        table[f"fault {number:#x}"] = errno.errorcode[ctypes.get_errno()] if r < 0 else r
print(json.dumps(table))
