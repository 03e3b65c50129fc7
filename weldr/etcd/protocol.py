"""etcd's messages and stubs, from the `etcd3` package, for any protobuf that an application may have.

The generated modules of etcd3 0.12.0 do not import on protobuf 4 or newer, but they carry the serialized
descriptors that they were generated from. Those are read from the source text without importing it, completed
with the fields that etcd has gained since, and made into classes in a descriptor pool of our own: the default
pool belongs to the application, which may well have a `rpc.proto` or `kv.proto` itself.

The finished modules are put where `import etcd3.etcdrpc` looks for them. Where the application has imported
etcd3 already (which works on protobuf's pure Python implementation), its modules are left alone, and the stubs
are executed a second time for our messages.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_PACKAGE = "etcd3.etcdrpc"
_NAMES = ("kv", "auth", "rpc")  # in the order of their dependencies


class EtcdProtocolError(ImportError):
    """The installed etcd3 package is not the one that weldr knows how to read."""


def _serialized_descriptor(source: str, path: Path) -> bytes:
    """The argument `serialized_pb` in the source of a generated module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            value = node.value
            # Old generators wrote `_b('…')`, a text whose characters stand for bytes.
            literal = ast.literal_eval(value.args[0] if isinstance(value, ast.Call) else value)
            return literal.encode("latin1") if isinstance(literal, str) else bytes(literal)
    raise EtcdProtocolError(f"{path} holds no protobuf descriptor: install etcd3==0.12.0")


def _sources() -> dict[str, Path]:
    """Where the generated modules are, found without importing any of them."""
    package = importlib.util.find_spec("etcd3")
    if package is None or package.origin is None:
        raise EtcdProtocolError("the package etcd3 is not installed: pip install etcd3")
    folder = Path(package.origin).parent / "etcdrpc"
    return {name: folder / f"{name}_pb2.py" for name in _NAMES}


def _add_newer_fields(file: Any) -> None:
    """Complete etcd3's `rpc.proto`, of etcd 3.3, by what weldr needs of 3.4. Numbers are those of etcd."""
    messages = {message.name: message for message in file.message_type}
    field = descriptor_pb2.FieldDescriptorProto

    def add(message: str, name: str, number: int, kind: int) -> Any:
        known = {present.name for present in messages[message].field}
        if name in known:
            return None
        return messages[message].field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)

    add("WatchCreateRequest", "fragment", 8, field.TYPE_BOOL)
    add("WatchResponse", "fragment", 7, field.TYPE_BOOL)
    add("StatusResponse", "isLearner", 10, field.TYPE_BOOL)
    add("StatusResponse", "dbSizeInUse", 9, field.TYPE_INT64)
    add("StatusResponse", "dbSizeQuota", 12, field.TYPE_INT64)
    if "WatchProgressRequest" not in messages:
        file.message_type.add(name="WatchProgressRequest")
    progress = add("WatchRequest", "progress_request", 3, field.TYPE_MESSAGE)
    if progress is not None:
        progress.type_name = ".etcdserverpb.WatchProgressRequest"
        progress.oneof_index = 0


def _message_modules() -> dict[str, ModuleType]:
    pool = descriptor_pool.DescriptorPool()
    modules = {}
    for name, path in _sources().items():
        serialized = _serialized_descriptor(path.read_text("utf-8"), path)
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        if name == "rpc":
            _add_newer_fields(file)
        pool.AddSerializedFile(file.SerializeToString())
        modules[name] = _module(f"{_PACKAGE}.{name}_pb2", pool.FindFileByName(file.name))
    return modules


def _module(name: str, file: Any) -> ModuleType:
    """A module with what a generated one offers: classes, enumerations and their values."""
    module = ModuleType(name)
    contents: dict[str, Any] = {"DESCRIPTOR": file}
    for message, descriptor in file.message_types_by_name.items():
        contents[message] = message_factory.GetMessageClass(descriptor)
    for enumeration, descriptor in file.enum_types_by_name.items():
        contents[enumeration] = enum_type_wrapper.EnumTypeWrapper(descriptor)
        contents.update({value.name: value.number for value in descriptor.values})
    vars(module).update(contents)
    return module


def _stubs(messages: dict[str, ModuleType]) -> ModuleType:
    """etcd3's stubs, for these messages."""
    if _PACKAGE in sys.modules:
        spec = importlib.util.find_spec(f"{_PACKAGE}.rpc_pb2_grpc")
        assert spec is not None
        assert spec.loader is not None
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
        # The stubs look their messages up in this name when they are made.
        vars(copy)["rpc__pb2"] = messages["rpc"]
        return copy
    for module in messages.values():
        sys.modules[module.__name__] = module
    import etcd3.etcdrpc

    for name, module in messages.items():
        # As the import of a submodule does.
        setattr(etcd3.etcdrpc, f"{name}_pb2", module)
    return etcd3.etcdrpc  # type: ignore[no-any-return]


def _load() -> tuple[ModuleType, ModuleType, ModuleType]:
    messages = _message_modules()
    return messages["rpc"], messages["kv"], _stubs(messages)


# `Any`, since their contents are made at run time.
rpc: Any
kv: Any
stubs: Any
rpc, kv, stubs = _load()
