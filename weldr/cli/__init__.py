"""The command line: options, and one line for whatever goes wrong."""
