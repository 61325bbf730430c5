#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Runs inside the demo's containers and starts the measured programs there, so that one container
serves many measurements. Reads one JSON request a line from standard input, answers with one line:

    {"argv": […], "cpus": […], "seconds": N}   runs a program: {"status", "stdout", "stderr"}
    {"wait": [ADDRESS, PORT], "seconds": N}    waits until a server accepts: {"status": 0 or 1}
    {"http": [ADDRESS, PORT, PATH]}            one GET: {"status", "stdout"}

It ends, and what it started with it, at the end of its input.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time


def run(request):
    def pin():
        os.sched_setaffinity(0, request["cpus"])

    try:
        done = subprocess.run(request["argv"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=request["seconds"], preexec_fn=pin)
    except subprocess.TimeoutExpired:
        return {"status": -1, "stdout": "", "stderr": f"no end after {request['seconds']} s"}
    except OSError as e:
        return {"status": 127, "stdout": "", "stderr": e.strerror}
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def wait(request):
    deadline = time.monotonic() + request["seconds"]
    while True:
        try:
            socket.create_connection(tuple(request["wait"]), timeout=1).close()
            return {"status": 0}
        except OSError as e:
            if time.monotonic() > deadline:
                return {"status": 1, "stderr": str(e)}
        time.sleep(0.05)


def get(request):
    address, port, path = request["http"]
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        return {"status": 0, "stdout": connection.getresponse().read().decode()}
    except (OSError, http.client.HTTPException) as e:
        return {"status": 1, "stderr": str(e)}
    finally:
        connection.close()


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if "argv" in request:
            answer = run(request)
        elif "wait" in request:
            answer = wait(request)
        else:
            answer = get(request)
        print(json.dumps(answer), flush=True)


main()
