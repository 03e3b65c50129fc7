"""How a new manager takes over from the one that runs: see docs/architecture.md, *Upgrades*."""

ENVIRONMENT = "WELDR_TAKEOVER_FD"
"""Names to the new manager its end of the socket pair."""
