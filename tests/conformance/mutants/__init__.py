"""The rules of the data plane, each with a variant of weldr that breaks it: see `mutant` and `__main__`."""
