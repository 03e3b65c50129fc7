"""weldr: an HTTP reverse proxy and load balancer that keeps no configuration of its own: it watches etcd.

For programs that register themselves:

    import weldr

    with weldr.register("shop", port=8000):
        serve_forever()
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from weldr.version import __version__

if TYPE_CHECKING:
    from weldr.sdk.registrar import RegistrationState
    from weldr.sdk.registration import Registration, register

# As a library weldr logs where the application says, and nowhere if it does not say.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = ["Registration", "RegistrationState", "__version__", "register"]


def __getattr__(name: str) -> object:
    # Late: the workers import this package too, and must not load gRPC.
    if name in ("Registration", "register"):
        from weldr.sdk import registration

        return getattr(registration, name)
    if name == "RegistrationState":
        from weldr.sdk.registrar import RegistrationState

        return RegistrationState
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
