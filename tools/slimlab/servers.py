# SPDX-License-Identifier: Apache-2.0
"""
The servers that are measured: one function each, which makes its files in the place's directory and
returns its command line. The ports are the same on each network: they are different places.
"""

import glob
import os
import shutil
import subprocess

from .system import LabError

IPERF, WEB, CACHE, REDIS, POSTGRES = 5201, 8080, 11211, 6379, 5432
ECHO, ACCEPT, GREET, LOG = 9000, 9001, 9002, 9003

POSTGRES_CLIENTS, POSTGRES_SCALE = 100, 10

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


def log(place, build):
    return [load_program(build), "log-server", str(LOG)]


def redis(place, build):
    return ["redis-server", "--port", str(REDIS), "--bind", "0.0.0.0", "--protected-mode", "no",
            "--save", "", "--appendonly", "no", "--dir", place.dir]


# --- PostgreSQL -----------------------------------------------------------------------------------


def postgres_program(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise LabError(f"{name} is missing: tools/install-packages bench")
    return found[-1]


def _as_postgres(*argv):
    # It refuses to run as root.
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *map(str, argv)]


def _quietly(what, argv, directory):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=directory)
    if done.returncode != 0:
        said = done.stdout.strip().split("\n")[-1]
        raise LabError(f"{what} failed ({done.returncode}): {said}")


def _make_cluster(directory):
    """A cluster with pgbench's tables, which no network has a part in: by a Unix socket alone."""
    os.mkdir(directory, 0o755)
    shutil.chown(directory, "postgres", "postgres")
    data = f"{directory}/data"
    control = _as_postgres(postgres_program("pg_ctl"), "-D", data, "-w", "-l", f"{directory}/log")
    _quietly("initdb", _as_postgres(postgres_program("initdb"), "-D", data, "-A", "trust", "-N",
                                    "--locale=C", "-E", "UTF8"), directory)
    with open(f"{data}/pg_hba.conf", "a") as f:
        f.write("host all all 0.0.0.0/0 trust\n")
    with open(f"{data}/postgresql.conf", "a") as f:
        f.write(f"fsync = off\nsynchronous_commit = off\nmax_connections = {POSTGRES_CLIENTS + 20}\n"
                "autovacuum = off\nshared_buffers = 256MB\n")
    _quietly("pg_ctl start", control + ["-o", f"-c listen_addresses= -c port={POSTGRES} "
                                              f"-c unix_socket_directories={directory}", "start"],
             directory)
    try:
        _quietly("pgbench -i", _as_postgres(postgres_program("pgbench"), "-h", directory, "-p",
                                            POSTGRES, "-i", "-q", "-s", POSTGRES_SCALE, "postgres"),
                 directory)
    finally:
        _quietly("pg_ctl stop", control + ["-m", "fast", "stop"], directory)
    return data


def postgres(place, build):
    """Each place has a copy of one cluster."""
    common = f"{os.path.dirname(place.dir)}/postgres"
    data = f"{place.dir}/data"
    if not os.path.isdir(common):
        _make_cluster(common)
    if not os.path.isdir(data):
        _quietly("cp", ["cp", "-a", f"{common}/data", data], place.dir)
    return _as_postgres(postgres_program("postgres"), "-D", data, "-c", "listen_addresses=*",
                        "-c", f"port={POSTGRES}", "-c", "unix_socket_directories=")
