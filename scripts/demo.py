"""What `quickstart` runs: an embedded etcd, `weldr run` and two sample backends, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path

import aiohttp

from weldr.control.embedded import EmbeddedEtcd, EmbeddedEtcdError, find_etcd
from weldr.control.listeners import ListenAddress, ListenError, Listeners

_READY_LIMIT_S = 30.0
_STOP_LIMIT_S = 15.0
_GRACE_S = 5.0
_HERE = Path(__file__).resolve().parent
_BIN = Path(sys.executable).parent


class DemoError(Exception):
    """The demonstration cannot go on; one line."""


async def start(*command: str) -> asyncio.subprocess.Process:
    """Run a program that ends with us, but only when we say so and not by the terminal's Ctrl-C."""
    leash = [sys.executable, "-P", "-m", "weldr.control.leash", str(os.getpid())]
    return await asyncio.create_subprocess_exec(
        *leash, *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a program and wait until it is gone."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def stop_successor(weldr: asyncio.subprocess.Process, admin: str) -> None:
    """End the weldr that has taken over, if ours ended by an upgrade: it is no child of ours."""
    if weldr.returncode == 0:
        command = [sys.executable, "-P", "-m", "weldr", "stop", "--admin", admin]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await process.wait()


async def answers(url: str, weldr: asyncio.subprocess.Process) -> None:
    """Wait until weldr answers 200 there."""
    async with asyncio.timeout(_READY_LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            if weldr.returncode is not None:
                raise DemoError("weldr has ended: see its words above")
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


def reachable(address: str) -> str:
    """The address as a client on this machine writes it."""
    parsed = ListenAddress.parse(address)
    return str(ListenAddress(parsed.host or "localhost", parsed.port))


def what_to_try(listen: str, etcd: str) -> str:
    """The lines to copy, with the real ports."""
    bin_directory = shlex.quote(os.path.relpath(_BIN))
    return f"""
weldr answers on http://{listen}, fed by etcd on {etcd}. In another terminal, in this folder:

  curl http://{listen}/

See who is in rotation, take one out by hand, watch it happen:

  {bin_directory}/etcdctl --endpoints={etcd} get --prefix /weldr/backends/
  {bin_directory}/etcdctl --endpoints={etcd} put /weldr/overrides/default/b1 '{{"drain": true}}'
  {bin_directory}/etcdctl --endpoints={etcd} del /weldr/overrides/default/b1

Run a server of your own that is in rotation while it runs:

  {bin_directory}/weldr register --etcd {etcd} default 9001 -- python3 -m http.server 9001

Ctrl-C here ends everything.
"""


async def demonstrate(listen: str, admin: str) -> None:
    """Start everything, say what to try, wait for Ctrl-C, end everything."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Before anything is started, lest another program's answers on that port be taken for weldr's.
    Listeners([ListenAddress.parse(listen)], 1, "--listen").close()
    Listeners([ListenAddress.parse(admin)], 1, "--admin").close()
    async with contextlib.AsyncExitStack() as stack:
        etcd = EmbeddedEtcd(find_etcd(), None)
        stack.push_async_callback(etcd.close)
        await etcd.start()
        program = [sys.executable, "-P", "-m", "weldr", "run", "--etcd", etcd.endpoint, "--log-format", "text"]
        # A short grace: weldr has to have ended, with its workers, before it would be killed.
        weldr = await start(*program, "--listen", listen, "--admin", admin, "--grace", str(_GRACE_S))
        # Called after the other: by then it has ended in any case.
        stack.push_async_callback(stop_successor, weldr, admin)
        stack.push_async_callback(stop, weldr)
        for name in ("b1", "b2"):
            backend = await start(sys.executable, str(_HERE / "sample_backend.py"), name, etcd.endpoint)
            stack.push_async_callback(stop, backend)
        ended = asyncio.ensure_future(weldr.wait())
        asked = asyncio.ensure_future(stopped.wait())
        ready = asyncio.ensure_future(answers(f"http://{reachable(listen)}/", weldr))
        await asyncio.wait({ready, asked}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            await ready
            print(what_to_try(reachable(listen), etcd.endpoint), flush=True)
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise DemoError("weldr has ended: see its words above")
        with contextlib.suppress(BrokenPipeError):
            print("ending …", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="quickstart", description="weldr with two sample backends.")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="where weldr takes requests")
    parser.add_argument("--admin", default="127.0.0.1:8687", help="where weldr answers /healthz and /readyz")
    options = parser.parse_args()
    try:
        asyncio.run(demonstrate(options.listen, options.admin))
    except (DemoError, EmbeddedEtcdError, ListenError, TimeoutError, ValueError) as error:
        sys.exit(f"quickstart: {str(error) or 'weldr did not answer in time'}")


if __name__ == "__main__":
    main()
