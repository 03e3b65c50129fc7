"""A fuzzer of the request and response paths: whole workers' worth of code on transports in memory.

A `Scenario` says what clients send, what backends answer and in which order everything happens; `run` plays it
on a clock of its own, and `checks` reads what each side got with a parser that is not weldr's.
"""
