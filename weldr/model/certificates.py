"""Certificates and their private keys, as PEM.

What is judged here is that the texts are what they are taken for. Whether the two fit takes OpenSSL, which
reads files only: see `weldr.control.certificates`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any

import msgspec

_BASE64 = r"[A-Za-z0-9+/=\r\n]+"
_CERTIFICATE = re.compile(rf"-----BEGIN CERTIFICATE-----\r?\n({_BASE64})-----END CERTIFICATE-----")
_KEY_LABEL = r"(?:RSA |EC )?PRIVATE KEY"
_KEY = re.compile(rf"-----BEGIN ({_KEY_LABEL})-----\r?\n({_BASE64})-----END \1-----")
_PARAMETERS = re.compile(rf"-----BEGIN EC PARAMETERS-----\r?\n{_BASE64}-----END EC PARAMETERS-----\s*")
_SEQUENCE = 0x30
_MOST_CERTIFICATES = 20


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate with its private key."""

    cert: Annotated[str, msgspec.Meta(max_length=128 * 1024)]
    """PEM: the certificate itself first, then those that lead to its authority."""
    key: Annotated[str, msgspec.Meta(max_length=32 * 1024)]
    """Secret, and never shown. PEM: the private key of the first certificate, without a passphrase."""

    def __repr__(self) -> str:
        return "Certificate(…)"


def certificate_fault(value: Certificate) -> tuple[str, str] | None:
    """The place and the reason why this is no certificate with a private key. The reason quotes nothing."""
    found = _CERTIFICATE.findall(value.cert)
    if not found or _CERTIFICATE.sub("", value.cert).strip():
        return "$.cert", "expected PEM, one or more blocks of CERTIFICATE and nothing else"
    if len(found) > _MOST_CERTIFICATES:
        return "$.cert", f"there are {len(found)} certificates: at most {_MOST_CERTIFICATES} are taken"
    if not all(map(_is_der, found)):
        return "$.cert", "a block of CERTIFICATE holds no certificate"
    if "ENCRYPTED" in value.key:
        return "$.key", "the private key has a passphrase: write it without one"
    key = _KEY.fullmatch(_PARAMETERS.sub("", value.key.strip()))
    if key is None or not _is_der(key[2]):
        return "$.key", "expected PEM, one block of PRIVATE KEY and nothing else"
    return None


def _is_der(text: str) -> bool:
    """Whether base64 stands for what begins as every certificate and every key does."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(data) > 2 and data[0] == _SEQUENCE


def certificates_in(value: Any) -> str:
    """The certificates in what somebody wrote for them, and no private key that was pasted along with them."""
    if not isinstance(value, str):
        return ""
    return "".join(f"{found[0]}\n" for found in _CERTIFICATE.finditer(value))
