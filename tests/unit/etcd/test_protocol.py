"""etcd's messages beside whatever else an application has of protobuf. Each in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from weldr.etcd.operations import prefix_end

PROJECT = Path(__file__).resolve().parents[3]

USE = """
import weldr.etcd.protocol as protocol
assert protocol.rpc.WatchCreateRequest(fragment=True).SerializeToString() == b"@\\x01"
progress = protocol.rpc.WatchRequest(progress_request=protocol.rpc.WatchProgressRequest())
assert progress.SerializeToString() == b"\\x1a\\x00"
assert protocol.rpc.WatchResponse.FromString(b"8\\x01").fragment
assert protocol.rpc.StatusResponse.FromString(b"P\\x01").isLearner
import grpc
stub = protocol.stubs.KVStub(grpc.insecure_channel("127.0.0.1:1"))
try:
    stub.Range(protocol.rpc.RangeRequest(key=b"a"), timeout=5)
except grpc.RpcError as error:
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
"""

OWN_FILES = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
pool = descriptor_pool.Default()
for name in ("kv", "auth", "rpc"):
    file = descriptor_pb2.FileDescriptorProto(name=name + ".proto", package="etcdserverpb", syntax="proto3")
    file.message_type.add(name="WatchRequest" if name == "rpc" else name.title())
    pool.AddSerializedFile(file.SerializeToString())
"""

CHECK_OWN_FILES = """
descriptor = pool.FindMessageTypeByName("etcdserverpb.WatchRequest")
assert not descriptor.fields, "the application's own file is as it was"
"""


def run(code: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_messages_have_the_fields_that_etcd3_lacks() -> None:
    run(USE)


def test_an_application_may_have_files_of_the_same_names() -> None:
    run(OWN_FILES + USE + CHECK_OWN_FILES)
    run(USE + OWN_FILES + CHECK_OWN_FILES)


def test_etcd3_itself_can_be_imported_afterwards() -> None:
    run(USE + "import etcd3\netcd3.client(port=1).close()\nassert etcd3.etcdrpc.rpc_pb2 is protocol.rpc\n")


def test_an_etcd3_that_was_imported_before_is_left_alone() -> None:
    code = "import etcd3\nbefore = etcd3.etcdrpc.RangeRequest\n" + USE
    code += "assert etcd3.etcdrpc.RangeRequest is before is not protocol.rpc.RangeRequest\n"
    # The only implementation on which etcd3 imports by itself.
    run(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")


def test_an_import_of_etcd3_that_failed_before_does_no_harm() -> None:
    run("try:\n    import etcd3\nexcept TypeError:\n    pass\n" + USE)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"/weldr/", b"/weldr0"),
        (b"a\xff", b"b"),
        (b"\xff\xff", b"\0"),
        (b"", b"\0"),
        (b"a\xffb\xff", b"a\xffc"),
    ],
)
def test_the_end_of_a_prefix_is_the_first_key_behind_it(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end
