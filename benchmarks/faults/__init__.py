"""What a failing backend costs the clients of weldr and of other proxies: `scripts/bench faults`."""
