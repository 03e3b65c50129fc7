"""`weldr.register` in programs of every kind."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import weldr
from tests.support.etcd import EtcdServer
from tests.support.instance import wait_until
from weldr import RegistrationState
from weldr.sdk.callbacks import Callbacks


def value_of(etcd: EtcdServer, key: str) -> str:
    return etcd.etcdctl("get", "--print-value-only", key).strip()


def lease_of(etcd: EtcdServer, key: str) -> int:
    return int(json.loads(etcd.etcdctl("get", "-w", "json", key))["kvs"][0]["lease"])


def test_with_a_with_block(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    states: list[RegistrationState] = []
    with weldr.register(
        "shop",
        "127.0.0.1:9001",
        id="b1",
        weight=2,
        zone="a",
        meta={"version": "7"},
        etcd=etcd_server.endpoint,
        prefix=etcd_prefix,
        on_change=lambda state, reason: states.append(state),
    ) as registration:
        assert registration.wait_registered(30)
        assert registration.state is RegistrationState.REGISTERED
        expected = '{"url":"http://127.0.0.1:9001","weight":2,"zone":"a","meta":{"version":"7"}}'
        assert value_of(etcd_server, key) == expected
    assert value_of(etcd_server, key) == ""
    assert states == [RegistrationState.REGISTERED, RegistrationState.LEAVING, RegistrationState.LEFT]


async def test_with_an_async_with_block_whose_loop_is_busy(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    async with weldr.register(
        "shop", port=9001, id="b1", ttl_s=20, etcd=etcd_server.endpoint, prefix=etcd_prefix
    ) as registration:
        assert await asyncio.to_thread(registration.wait_registered, 30)
        # The application's loop is stuck from here on.
        etcd_server.wait_renewed(lease_of(etcd_server, key))
        assert registration.state is RegistrationState.REGISTERED
        assert value_of(etcd_server, key)
    assert await asyncio.to_thread(value_of, etcd_server, key) == ""


def test_a_block_that_fails_deregisters(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        weldr.register("shop", port=9001, id="b1", etcd=etcd_server.endpoint, prefix=etcd_prefix),
    ):
        _ = 1 / 0
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1") == ""


async def test_a_block_that_never_ran_since_it_was_cancelled_registers_nothing(own_etcd: EtcdServer) -> None:
    own_etcd.stop()
    registration = weldr.register("shop", port=9001, id="b1", etcd=own_etcd.endpoint)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), registration:
            pytest.fail("there is no etcd: it still waits for it")
    await asyncio.to_thread(own_etcd.start)
    wait_until(lambda: registration.state is RegistrationState.LEFT, "the registration has left")
    assert value_of(own_etcd, "/weldr/backends/shop/b1") == ""


async def test_a_block_is_left_when_no_thread_is_free_and_its_task_is_cancelled_twice(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    loop, inside, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)

    async def program() -> None:
        async with weldr.register("shop", port=9001, id="b1", etcd=etcd_server.endpoint, prefix=etcd_prefix):
            pool.submit(over.wait)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    await inside.wait()
    assert value_of(etcd_server, key) != ""
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.1)
    assert task.done()
    try:
        wait_until(lambda: value_of(etcd_server, key) == "", "the key is gone")
    finally:
        over.set()


def test_without_etcd_the_program_runs_and_registers_later(own_etcd: EtcdServer) -> None:
    own_etcd.stop()
    with weldr.register("shop", port=9001, id="b1", etcd=own_etcd.endpoint) as registration:
        assert registration.state is RegistrationState.REGISTERING
        own_etcd.start()
        assert registration.wait_registered(30)
        assert value_of(own_etcd, "/weldr/backends/shop/b1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"port": 1, "address": "127.0.0.1:1"}, "either"),
        ({}, "either"),
        ({"address": "127.0.0.1"}, "no port"),
        ({"port": 1, "id": "a/b"}, "slash"),
        ({"port": 1, "etcd": "ftp://x:1"}, "ftp"),
        ({"port": 1, "ttl_s": 0}, "ttl_s"),
        ({"port": 1, "ttl_s": 2.5}, "ttl_s"),
        ({"port": 1, "ttl_s": 10**12}, "ttl_s"),
        ({"port": 1, "weight": -1}, "weight"),
        ({"port": 1, "weight": 2_000_000}, "weight"),
        ({"port": 1, "meta": {"a": 1}}, "meta"),
        ({"port": 1, "meta": {str(number): "" for number in range(65)}}, "meta"),
        ({"port": 1, "prefix": "/"}, "prefix"),
        ({"port": 1, "leave_limit_s": -1}, "leave_limit_s"),
        ({"port": 1, "leave_limit_s": math.inf}, "leave_limit_s"),
        ({"port": 1, "leave_limit_s": math.nan}, "leave_limit_s"),
        ({"port": 1, "leave_limit_s": None}, "leave_limit_s"),
        ({"port": 1, "id": 5}, "id is 5"),
        ({"address": 9001}, "address is 9001: expected text"),
        ({"port": 9001, "etcd": ["http://127.0.0.1:1"]}, "etcd is .* commas"),
        ({"port": 9001, "prefix": None}, "prefix is None"),
        ({"port": 9001, "zone": "\ud800"}, "zone is .*: expected text"),
        ({"port": 9001, "meta": ["a"]}, "meta is .*: expected a mapping"),
        ({"port": 9001, "meta": {"a": "\ud800"}}, "meta is .*: expected a mapping"),
        ({"port": 9001, "on_change": "log"}, "on_change is 'log': expected a function"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weldr.register("shop", **({"etcd": "127.0.0.1:1"} | arguments))  # type: ignore[arg-type]


PROGRAM = """
import os, sys, threading, time
import weldr
{before}
registration = weldr.register("shop", port=9001, id="b1", etcd=sys.argv[1], prefix=sys.argv[2])
assert registration.wait_registered(30)
print("registered", flush=True)
{after}
"""

# Not one long sleep: Python handles a signal that arrives just before a system call only after that.
GOES_ON = "while True: time.sleep(0.01)"


def run_program(etcd: EtcdServer, prefix: str, before: str = "", after: str = "") -> subprocess.Popen[str]:
    source = PROGRAM.format(before=before, after=after)
    program = subprocess.Popen(
        [sys.executable, "-c", source, etcd.endpoint, prefix], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "registered\n"
    return program


def test_a_program_that_ends_without_leaving_is_deregistered_at_its_exit(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    program = run_program(etcd_server, etcd_prefix)
    assert program.wait(30) == 0
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1") == ""


def test_sigterm_deregisters_and_then_ends_the_program_as_before(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    program = run_program(etcd_server, etcd_prefix, after=GOES_ON)
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) == -signal.SIGTERM
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1") == ""


def test_sigterm_deregisters_every_registration_of_the_program(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    other = "weldr.register('shop', '127.0.0.1:9002', id='b2', etcd=sys.argv[1], prefix=sys.argv[2])"
    program = run_program(etcd_server, etcd_prefix, f"assert {other}.wait_registered(30)", GOES_ON)
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) == -signal.SIGTERM
    assert etcd_server.etcdctl("get", "--prefix", f"{etcd_prefix}backends/") == ""


def test_the_programs_own_sigterm_handler_is_left_alone(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    before = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))"
    program = run_program(etcd_server, etcd_prefix, before, GOES_ON)
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) == 5
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1") == ""


def test_a_fork_of_the_program_neither_hangs_nor_crashes_nor_deregisters_it(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    # Many, since what gRPC's threads did in a fork did not happen in each.
    after = """
statuses = set()
for _ in range(40):
    child = os.fork()
    if child == 0:
        sys.exit(3)
    statuses.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    time.sleep(0.01)
print(*statuses, flush=True)
while True: time.sleep(0.01)
"""
    program = run_program(etcd_server, etcd_prefix, after=after)
    assert program.stdout is not None
    assert program.stdout.readline() == "3\n"
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1")
    program.terminate()
    program.wait(30)


def test_registering_in_a_fork_of_a_registered_program_is_an_error_that_says_so(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    after = """
child = os.fork()
if child == 0:
    try:
        weldr.register("shop", port=9002, etcd=sys.argv[1], prefix=sys.argv[2])
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
while True: time.sleep(0.01)
"""
    program = run_program(etcd_server, etcd_prefix, after=after)
    assert program.stdout is not None
    assert "register after the fork" in program.stdout.readline()
    program.terminate()
    program.wait(30)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_an_on_change_that_fails_is_told_the_next_change_all_the_same(error: type[BaseException]) -> None:
    told = []

    def on_change(state: RegistrationState, reason: str) -> None:
        told.append(state)
        raise error

    callbacks = Callbacks(on_change)
    callbacks.tell(RegistrationState.REGISTERED, "")
    callbacks.tell(RegistrationState.LEFT, "")
    callbacks.close(30)
    assert told == [RegistrationState.REGISTERED, RegistrationState.LEFT]


def test_a_slow_on_change_costs_no_lease_and_may_leave(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    release = threading.Event()

    def on_change(state: weldr.RegistrationState, reason: str) -> None:
        if state is weldr.RegistrationState.REGISTERED:
            release.wait(60)
            registration.leave()

    arguments: dict[str, Any] = {"etcd": etcd_server.endpoint, "prefix": etcd_prefix, "id": "b1"}
    registration = weldr.register("shop", port=9001, ttl_s=20, on_change=on_change, **arguments)
    assert registration.wait_registered(30)
    # While the function waits.
    etcd_server.wait_renewed(lease_of(etcd_server, key))
    release.set()
    wait_until(lambda: value_of(etcd_server, key) == "", "it has left")


def test_a_killed_program_is_out_of_rotation_with_its_lease(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    after = "os.kill(os.getpid(), 9)"
    source_ttl = "weldr.register = __import__('functools').partial(weldr.register, ttl_s=2)"
    program = run_program(etcd_server, etcd_prefix, source_ttl, after)
    program.wait(30)
    wait_until(lambda: not value_of(etcd_server, f"{etcd_prefix}backends/shop/b1"), "the lease has expired")


def test_it_lives_beside_other_protobuf_and_grpc_code(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    # The application has a file of the same name and package as etcd's own in the default pool, and talks
    # gRPC on an event loop of its own while the registration does on its.
    before = """
import asyncio, grpc
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="etcdserverpb")
file.message_type.add(name="PutRequest")
descriptor_pool.Default().Add(file) if hasattr(descriptor_pool.Default(), "Add") else \\
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""
    after = """
async def application():
    async def echo(request, context):
        return request
    handler = grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(echo)})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(2000):
            assert await channel.unary_unary("/a.B/C")(b"%d" % number) == b"%d" % number
    await server.stop(None)
asyncio.run(application())
assert registration.state == "registered"
print("done", flush=True)
"""
    program = run_program(etcd_server, etcd_prefix, before, after)
    assert program.stdout is not None
    assert program.stdout.readline() == "done\n"
    assert program.wait(30) == 0
    assert value_of(etcd_server, f"{etcd_prefix}backends/shop/b1") == ""


def test_importing_weldr_loads_no_grpc() -> None:
    code = "import sys, weldr; sys.exit('grpc' in sys.modules or 'aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
