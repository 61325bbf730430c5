# SPDX-License-Identifier: Apache-2.0
"""The cases, in the order of the table."""

from . import (create, connect, bind, listen, names, events, data, urgent, ending, options_socket,  # noqa: F401
               options_tcp, options_ip, ioctls, processes, other)
