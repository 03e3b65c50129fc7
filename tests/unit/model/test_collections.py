"""The table of collections: it follows the decoders, and addresses are told from mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weldr.control import admin
from weldr.model.collections import COLLECTIONS, PathError, parse_path, parse_path_prefix, path_of, validate
from weldr.model.decode import DECODED, Fault
from weldr.model.documents import shown
from weldr.model.keys import REPORTED, KeyName, KeySpace, Kind

keys = KeySpace()


def test_every_kind_that_the_catalog_decodes_can_be_written_unless_instances_write_it() -> None:
    assert {item.kind for item in COLLECTIONS.values() if item.writable} == set(DECODED) - REPORTED


def test_every_collection_that_can_be_written_knows_the_type_of_its_values() -> None:
    assert all(item.value_type is not None for item in COLLECTIONS.values() if item.writable)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("routes/cart", KeyName(Kind.ROUTE, ("cart",))),
        ("/weldr/backends/shop/b1", KeyName(Kind.BACKEND, ("shop", "b1"))),
        ("settings", KeyName(Kind.SETTINGS, ())),
    ],
)
def test_an_address_names_a_key_with_or_without_the_prefix(text: str, name: KeyName) -> None:
    assert parse_path(text, keys) == name
    assert parse_path(path_of(name), keys) == name


@pytest.mark.parametrize(
    "text",
    ["", "route/x", "routes", "routes/", "routes/a/b", "settings/x", "backends//b", f"backends/a/{'b' * 1025}"],
)
def test_what_names_no_key_is_refused(text: str) -> None:
    with pytest.raises(PathError, match=r"no collection|expected|more than 1024 bytes"):
        parse_path(text, keys)


def test_a_key_has_one_name_however_its_bytes_are_written() -> None:
    name = KeyName(Kind.SERVICE, (r"a\\b",))
    assert keys.parse(keys.key(Kind.SERVICE, r"a\b")) == name
    for text in (r"services/a\b", r"services/a\\b", r"services/\x61\b"):
        assert parse_path(text, keys) == name
        assert parse_path_prefix(text, keys)[1] == name.names


def test_the_first_names_of_a_collection_name_a_part_of_it() -> None:
    assert parse_path_prefix("backends", keys)[1] == ()
    assert parse_path_prefix("backends/shop/", keys)[1] == ("shop",)
    with pytest.raises(PathError, match="expected settings"):
        parse_path_prefix("settings/x", keys)


def test_a_value_is_judged_as_the_catalog_judges_it() -> None:
    assert isinstance(validate(Kind.BACKEND, b"127.0.0.1:80x"), Fault)
    with pytest.raises(ValueError, match="weldr alone"):
        validate(Kind.INSTANCE, b"{}")


def test_of_a_value_with_a_secret_only_what_is_known_to_be_public_is_shown() -> None:
    raw = b'{"cert": "secret", "key": "secret", "kee": "secret"}'
    assert shown(COLLECTIONS["certs"], raw) == {"cert": ""}
    assert shown(COLLECTIONS["sticky_key"], raw) == {}
    assert shown(COLLECTIONS["secrets"], raw) == {}
    assert shown(COLLECTIONS["certs"], b"secret") is None


def test_the_dashboard_knows_what_is_no_configuration() -> None:
    text = (Path(admin.__file__).parent / "dashboard" / "state.js").read_text()
    listed = re.search(r"REPORTED = new Set\(\[(.*)\]\)", text)
    assert listed is not None
    assert set(re.findall(r'"([^"]+)"', listed[1])) == {kind.value for kind in REPORTED}
