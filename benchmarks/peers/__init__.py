"""weldr beside other proxies: the same work for each in one run."""
