# SPDX-License-Identifier: Apache-2.0
"""
What tools/lab, tools/demo and bench/bench are made of. Standard library only, Python 3.9 and later.

    system     system calls that Python lacks, cgroup2 and bpffs, processes, ip(8)
    state      a lab's directory: who is in it, and the lock around that
    underlay   the hosts' network namespaces and the bridge between them
    baseline   the overlay that Slim is compared with, and a container on it
    daemon     the slimd of each host
    lab        up, down, status: all of the above in order
    cli        the command line
    place      servers and clients over one of several networks; agent runs inside the containers
    servers    the servers that are measured, clients what measures them
    program    what tools/demo and bench/bench are as programs
    demo       the measurements of tools/demo
    proof      what the wire and the devices saw of them
"""
