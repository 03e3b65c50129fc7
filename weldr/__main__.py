"""`python -m weldr`."""

from weldr.cli.start import main

main()
