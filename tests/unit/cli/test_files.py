"""Keys in files: what they mean, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from weldr.cli.files import FileError, nested, read_files
from weldr.cli.output import as_yaml
from weldr.model.collections import COLLECTIONS
from weldr.model.documents import document_of
from weldr.model.keys import KeyName, KeySpace, Kind

keys = KeySpace()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("routes:\n  a: {service: x}\n  a: {service: y}\n", "line 3: 'a' is there twice"),
        ("routes: [\n", "line 2"),
        ("rotes: {}\n", "no such collection"),
        ("routes: {a: {service: 5}}\n", "routes/a, at $.service"),
        ("routes: {a/b: {service: x}}\n", "slash"),
        ("routes: {true: {service: x}}\n", "put it in quotes"),
        ("routes: x\n", "expected a mapping by name"),
        ("backends: {s: x}\n", "expected a mapping by id"),
        ("instances: {}\n", "written by weldr alone"),
        ("- a\n", "expected a mapping of collections"),
        ("\x00", "this is no YAML"),
        ("settings:\n  timeouts: {response_s: 2030-13-45}\n", "line 2: '2030-13-45' is no timestamp"),
        ("settings: {timeouts: {response_s: !!int x}}\n", "line 1: 'x' is no int"),
        (f"settings: {{timeouts: {{response_s: {'9' * 5000}}}}}\n", "is no int"),
        ("settings: {timeouts: !!bool x}\n", "line 1: 'x' is no bool"),
        ("routes: {a: &a {service: *a}}\n", "holds itself"),
        ("backends:\n  s:\n    007: 10.0.0.1:80\n", "line 3: '007' would be the name '7': put it in quotes"),
        ("backends: {s: {0x10: 10.0.0.1:80}}\n", "put it in quotes"),
        ("overrides: {s: {b: {until: 2030-01-31T12:00:00}}}\n", "time zone"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(FileError) as refused:
        read_files([file], keys)
    told = str(refused.value)
    assert words in told
    assert told.startswith(str(file))
    assert "\n" not in told


def test_a_directory_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text("services: {one: {}}\n---\nservices: {two: {}}\n")
    (tmp_path / "deep" / "b.json").write_text('{"services": {"three": {}}, "routes": {}}')
    (tmp_path / "notes.txt").write_text("not ours")
    wanted, named = read_files([tmp_path], keys)
    assert {name.names[0] for name in wanted} == {"one", "two", "three"}
    assert named == {COLLECTIONS["services"], COLLECTIONS["routes"]}
    (tmp_path / "c.yml").write_text("services: {one: {}}\n")
    with pytest.raises(FileError, match="as well"):
        read_files([tmp_path], keys)


def test_a_name_with_a_backslash_is_the_one_that_its_key_has(file: Path) -> None:
    file.write_text("services: {'a\\b': {}}\n")
    wanted, _ = read_files([file], keys)
    assert list(wanted) == [keys.parse(keys.key(Kind.SERVICE, r"a\b"))]


def test_a_file_of_values_reads_back_as_the_same_keys(file: Path) -> None:
    values = {
        KeyName(Kind.BACKEND, ("shop", "b1")): b"10.0.0.5:8080",
        KeyName(Kind.BACKEND, ("shop", "yes")): b"true:80",
        KeyName(Kind.BACKEND, ("shop", "012")): b'{"url":"http://h:1","meta":{"a":"no"}}',
        KeyName(Kind.ROUTE, ("a b \u00e9",)): b'{"service":"shop","host":"*.shop.example"}',
        KeyName(Kind.OVERRIDE, ("shop", "b1")): b'{"until":"2030-01-31T12:00:00Z","drain":true}',
        KeyName(Kind.SETTINGS, ()): b'{"timeouts":{"read_s":1.5}}',
    }
    file.write_text(as_yaml(nested({name: document_of(raw) for name, raw in values.items()})))
    wanted, _ = read_files([file], keys)
    assert {name: document_of(raw) for name, raw in wanted.items()} == {
        name: document_of(raw) for name, raw in values.items()
    }
