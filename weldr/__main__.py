"""`python -m weldr`."""

from weldr.cli.main import main

main()
