# SPDX-License-Identifier: Apache-2.0
"""
The servers that are measured: one function each, which makes its files in the place's directory and
returns its command line. The ports are the same on each network: they are different places.
"""

import os

IPERF, WEB, CACHE = 5201, 8080, 11211
ECHO, ACCEPT, GREET = 9000, 9001, 9002

_NGINX = """daemon off;
worker_processes 1;
error_log stderr error;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    keepalive_requests 1000000000;
    open_file_cache max=10;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen {port} backlog=4096;
        root {root};
        location = /who {{ return 200 "$remote_addr $server_addr"; }}
    }}
}}
"""

# What nginx serves: names and sizes.
PAGES = {"1k": 1 << 10, "1m": 1 << 20}


def load_program(build):
    return f"{build}/bench/load/load"


def iperf(place, build):
    return ["iperf3", "-s", "-p", str(IPERF)]


def web(place, build):
    root = f"{place.dir}/root"
    os.makedirs(root, exist_ok=True)
    for name, size in PAGES.items():
        with open(f"{root}/{name}", "w") as f:
            f.write("x" * size)
    with open(f"{place.dir}/nginx.conf", "w") as f:
        f.write(_NGINX.format(dir=place.dir, root=root, port=WEB))
    return ["nginx", "-p", place.dir, "-e", "stderr", "-c", f"{place.dir}/nginx.conf"]


def cache(place, build, threads=1):
    return ["memcached", "-u", "nobody", "-p", str(CACHE), "-U", "0", "-t", str(threads),
            "-m", "1024", "-c", "1024"]


def echo(place, build):
    return [load_program(build), "echo", str(ECHO)]


def accept(place, build):
    return [load_program(build), "accept", str(ACCEPT)]


def greet(place, build):
    return [load_program(build), "greet", str(GREET)]
