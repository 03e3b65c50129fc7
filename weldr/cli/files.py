"""Keys in files: YAML or JSON, a mapping for each collection.

routes:
  cart: {host: shop.example, path: /cart, service: cart}
backends:
  cart:
    b1: 10.0.0.5:8080
settings: {timeouts: {response_s: 30}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from weldr.control.certificates import validate
from weldr.model.collections import COLLECTIONS, Collection, path_of
from weldr.model.decode import Fault
from weldr.model.documents import raw_of
from weldr.model.keys import KeyName, KeySpace, canonical_name

_SUFFIXES = (".yaml", ".yml", ".json")
_MOST_FILE_BYTES = 64 * 1024 * 1024


class FileError(Exception):
    """A file that cannot be taken; one line that names the file, the place and what to do."""

    def __init__(self, path: Path, place: str, reason: str) -> None:
        where = f"{path}, {place}" if place else str(path)
        super().__init__(f"{where}: {reason}")


class _Loader(yaml.SafeLoader):
    """Refuses what YAML lets pass: a key that is there twice, of which one would be lost without a word, and a
    number that would be another name than it looks (`007` is 7). What cannot be read is told with its place.
    """

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError):
            # Such as a date of a 13th month: PyYAML leaves these to the types that it makes.
            kind = node.tag.rpartition(":")[2]
            reason = f"{str(node.value)[:40]!r} is no {kind}: correct it, or put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, str) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", key.start_mark)
            seen.add(name if isinstance(name, str) else None)
            if isinstance(name, int) and not isinstance(name, bool) and str(name) != key.value:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} would be the name '{name}': put it in quotes", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read_files(paths: list[Path], keys: KeySpace) -> tuple[dict[KeyName, bytes], set[Collection]]:
    """The keys of all files (of a directory: those below it), and the collections that any of them names.

    Raises `FileError`.
    """
    wanted: dict[KeyName, bytes] = {}
    origin: dict[KeyName, Path] = {}
    named: set[Collection] = set()
    for path in [file for given in paths for file in _files(given)]:
        for document in _documents(path):
            for collection, name, value in _keys_of(document, path, keys):
                named.add(collection)
                if name is None:
                    continue
                if name in wanted:
                    raise FileError(path, path_of(name), f"the key is in {origin[name]} as well")
                wanted[name], origin[name] = value, path
    return wanted, named


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise FileError(path, "", f"there is no file in it that ends in {', '.join(_SUFFIXES)}")
    return found


def _documents(path: Path) -> list[Any]:
    try:
        with (Path("/dev/stdin") if str(path) == "-" else path).open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
        if len(data) > _MOST_FILE_BYTES:
            raise FileError(path, "", f"the file is larger than {_MOST_FILE_BYTES} bytes")
        return [found for found in yaml.load_all(data.decode("utf-8"), _Loader) if found is not None]
    except OSError as error:
        raise FileError(path, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FileError(path, f"byte {error.start}", "the file is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        raise FileError(path, place, str(getattr(error, "problem", None) or "this is no YAML")) from None
    except RecursionError:
        raise FileError(path, "", "the file is nested too deeply") from None


def _keys_of(document: Any, path: Path, keys: KeySpace) -> Iterator[tuple[Collection, KeyName | None, bytes]]:
    if not isinstance(document, dict):
        raise FileError(path, "", "expected a mapping of collections, as in `routes: {cart: {service: cart}}`")
    for head, inner in document.items():
        collection = COLLECTIONS.get(head) if isinstance(head, str) else None
        if collection is None:
            raise FileError(path, str(head), f"there is no such collection: expected {', '.join(COLLECTIONS)}")
        if not collection.writable:
            raise FileError(path, str(head), "these are written by weldr alone")
        if inner is None and collection.parts:
            # An empty section is more often forgotten than meant: what it would have removed stays.
            continue
        yield collection, None, b""
        for names, value in _nested(inner, len(collection.parts), collection, path, ()):
            name = KeyName(collection.kind, tuple(map(canonical_name, names)))
            yield collection, name, _value(name, value, path, keys)


def _nested(
    inner: Any, depth: int, collection: Collection, path: Path, names: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if depth == 0:
        yield names, inner
        return
    if not isinstance(inner, dict):
        place = "/".join([collection.name, *names])
        if inner is None:
            return
        raise FileError(path, place, f"expected a mapping by {collection.parts[len(names)]}")
    for name, value in inner.items():
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise FileError(path, "/".join([collection.name, *names]), f"{name!r} is no name: put it in quotes")
        yield from _nested(value, depth - 1, collection, path, (*names, str(name)))


def _value(name: KeyName, value: Any, path: Path, keys: KeySpace) -> bytes:
    try:
        keys.key(name.kind, *name.names)
        raw = raw_of(value)
    except (ValueError, TypeError) as error:
        raise FileError(path, path_of(name), str(error)) from None
    except RecursionError:
        raise FileError(path, path_of(name), "the value is nested too deeply, or holds itself") from None
    found = validate(name.kind, raw)
    if isinstance(found, Fault):
        raise FileError(path, f"{path_of(name)}, at {found.place}", found.reason)
    return raw


def nested(values: Mapping[KeyName, Any]) -> dict[str, Any]:
    """Values in the shape of a file."""
    result: dict[str, Any] = {}
    for name, value in sorted(values.items(), key=lambda item: (item[0].kind, item[0].names)):
        path = [name.kind.value, *name.names]
        level = result
        for part in path[:-1]:
            level = level.setdefault(part, {})
        level[path[-1]] = value
    return result
