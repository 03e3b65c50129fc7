"""The etcd client: async methods and typed events above, `etcd3`'s messages on `grpc.aio` below.

`protocol` makes the messages; `connection` holds a channel to one good member; `client` makes requests;
`lease`, `watch` and `follow` are what lives on for long. Nothing above this package sees gRPC.
"""

from __future__ import annotations

import os

# Before anything imports gRPC: its C core writes lines of its own to standard error, at each attempt, for what
# weldr says once. The choice of whoever set this comes first.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Nor is it to start threads of its own in a fork of the program, as it does by default: they work on what they
# know of the parent's connections, and one such fork in four died of it at its end. By gRPC's documentation for
# Python, who needs its support of forks sets this to 1.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
