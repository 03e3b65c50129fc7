"""Whether a private key is the one of a certificate, by OpenSSL, which is what would use them."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator

from weldr.model.certificates import Certificate
from weldr.model.collections import validate as validate_alone
from weldr.model.decode import Fault
from weldr.model.keys import Kind
from weldr.model.values import Value


def validate(kind: Kind, raw: bytes) -> Value | Fault:
    """What a value that is about to be written means, or why it is refused.

    Raises `ValueError` for a collection that only instances write.
    """
    found = validate_alone(kind, raw)
    if isinstance(found, Certificate):
        return _misfit(found) or found
    return found


def _misfit(pair: Certificate) -> Fault | None:
    with _file_of(pair.cert) as cert, _file_of(pair.key) as key:
        try:
            # An empty passphrase makes of a wanted one an error, where OpenSSL would ask on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            return _fault(error.reason or "")
        except ValueError:
            return _fault("")
    return None


def _fault(reason: str) -> Fault:
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return Fault("$.key", "this is not the private key of the first certificate")
    if reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return Fault("$.cert", f"OpenSSL refuses it as too weak ({reason})")
    return Fault(
        "$", f"OpenSSL cannot read the certificates and the private key ({reason or 'no reason given'})"
    )


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[str]:
    """A file with this text, in memory where the system has such: a private key should be on no disk."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("weldr", os.MFD_CLOEXEC)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
