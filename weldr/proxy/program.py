"""The worker program (`weldr/proxy/__main__.py`). It is started by the manager and by nobody else."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys

from weldr import logs
from weldr.privileges import PrivilegeError, User, drop_all


def main() -> int:
    """Run a worker; return its exit status."""
    arguments = _arguments()
    try:
        # Before anything else: all that a worker needs of its privileges are descriptors, and it has them.
        drop_all(User("", *arguments.become) if arguments.become else None)
    except PrivilegeError as error:
        print(f"weldr.proxy: {error}", file=sys.stderr)
        return 1
    import uvloop

    logs.configure(
        log_format=arguments.log_format,
        level=arguments.log_level,
        fields={"worker": arguments.name, "pid": os.getpid()},
    )
    channel = socket.socket(fileno=arguments.channel_fd)
    listeners = [socket.socket(fileno=fd) for fd in arguments.listen_fd]
    for sock in (channel, *listeners):
        sock.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_run(channel, listeners, arguments))
    logs.flush()
    return status


async def _run(channel: socket.socket, listeners: list[socket.socket], arguments: argparse.Namespace) -> int:
    from weldr.proxy.worker import Telling, Worker

    networks = tuple(filter(None, arguments.debug_headers.split(",")))
    telling = Telling(networks, arguments.otlp, arguments.instance)
    worker = Worker(
        channel, listeners, arguments.grace, share=1 / arguments.of, zone=arguments.zone, telling=telling
    )
    return await worker.run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="weldr.proxy", description="A worker of weldr, started by `weldr run`."
    )
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, action="append", required=True)
    parser.add_argument("--become", type=int, nargs=2, metavar=("UID", "GID"), help="the user to run as")
    parser.add_argument("--name", required=True)
    parser.add_argument("--of", type=int, default=1, help="how many workers the instance has")
    parser.add_argument("--grace", type=float, required=True, help="seconds to finish, if the manager is gone")
    parser.add_argument("--zone", default="", help="where this instance is")
    parser.add_argument("--debug-headers", default="", help="networks, with commas between")
    parser.add_argument("--otlp", default="", help="URL of a collector of spans")
    parser.add_argument("--instance", default="", help="name of the instance in spans")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info")
    return parser.parse_args()
