"""How a new manager takes over from the one that runs: see docs/architecture.md, *Upgrades*."""
