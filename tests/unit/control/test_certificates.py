"""Certificates and private keys: what is taken for a pair, and what is said of what is none."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tests.support.tls import Authority
from weldr.control.certificates import validate
from weldr.model.certificates import Certificate
from weldr.model.decode import MAX_VALUE_BYTES, Fault
from weldr.model.documents import raw_of
from weldr.model.keys import Kind

MARK = "SECRETSECRET"
NONE = f"-----BEGIN CERTIFICATE-----\n{MARK}\n-----END CERTIFICATE-----\n"
LOCKED = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{MARK}\n-----END ENCRYPTED PRIVATE KEY-----\n"
OLD_LOCKED = (
    f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{MARK}\n-----END RSA PRIVATE KEY-----\n"
)


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A chain with its key, and another key."""
    authority = Authority(tmp_path_factory.mktemp("authority"), "authority")
    pair, other = authority.issue("one"), authority.issue("two")
    return {
        "chain": pair.certificate.read_text() + authority.ca.read_text(),
        "key": pair.key.read_text(),
        "other": other.key.read_text(),
    }


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_pair_that_fits_is_taken(
    pems: dict[str, str], in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    found = validate(Kind.CERT, raw_of({"cert": pems["chain"], "key": pems["key"].replace("\n", "\r\n")}))
    assert isinstance(found, Certificate)
    assert "PRIVATE" not in repr(found)
    assert validate(Kind.CERT, raw_of({"cert": pems["chain"], "key": pems["other"]})) == Fault(
        "$.key", "this is not the private key of the first certificate"
    )


@pytest.mark.parametrize(
    ("changed", "place", "reason"),
    [
        ({"cert": ""}, "$.cert", "expected PEM"),
        ({"cert": "{chain}{key}"}, "$.cert", "expected PEM"),
        ({"cert": "{key}"}, "$.cert", "expected PEM"),
        ({"cert": "SECRETSECRET{chain}"}, "$.cert", "expected PEM"),
        ({"cert": NONE}, "$.cert", "holds no certificate"),
        ({"cert": NONE.replace(MARK, "MIIBSECRETSECRET")}, "$", "cannot read"),
        ({"cert": NONE.replace(MARK, "MIIBSECRETSECRETM") + "{chain}"}, "$.cert", "holds no certificate"),
        ({"cert": "{chain}" * 11}, "$.cert", "22 certificates: at most 20"),
        ({"key": ""}, "$.key", "expected PEM"),
        ({"key": "{key}{key}"}, "$.key", "expected PEM"),
        ({"key": "{chain}"}, "$.key", "expected PEM"),
        ({"key": LOCKED}, "$.key", "passphrase"),
        ({"key": OLD_LOCKED}, "$.key", "passphrase"),
        (
            {"key": "-----BEGIN PRIVATE KEY-----\nMIIBSECRETSECRET\n-----END PRIVATE KEY-----"},
            "$",
            "cannot read",
        ),
        ({"key": 5}, "$.key", "Expected `str`"),
        ({"kee-SECRETSECRET": "x"}, "$", "the members `cert` and `key` and no other"),
        ({"cert": "SECRETSECRET" * 20_000}, "$.cert", "length"),
        ({"cert": "SECRETSECRET" * (MAX_VALUE_BYTES // 12)}, "$", "bytes"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_place_and_without_a_word_of_it(
    pems: dict[str, str], changed: dict[str, object], place: str, reason: str
) -> None:
    value: dict[str, object] = {"cert": pems["chain"], "key": pems["key"]}
    for name, text in changed.items():
        value[name] = (
            text.replace("{chain}", pems["chain"]).replace("{key}", pems["key"])
            if isinstance(text, str)
            else text
        )
    found = validate(Kind.CERT, msgspec.json.encode(value))
    assert isinstance(found, Fault)
    assert (found.place, reason in found.reason) == (place, True), found
    assert MARK not in found.reason


def test_a_private_key_leaves_nothing_open(pems: dict[str, str]) -> None:
    raw = raw_of({"cert": pems["chain"], "key": pems["key"]})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        validate(Kind.CERT, raw)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
