"""What turns a good message into one that is almost good."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.fuzz.choices import Choices

_INSERTED = (
    *(b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b"\x0b", b"\x7f", b"\x80", b":", b",", b";", b"\r\n "),
    *(
        b"\n\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: s\r\n\r\n",
        b"a" * 300,
        b"X: " + b"b" * 70000,
    ),
)

Mutation = Callable[[list[bytes], int, int], None]


def _delete(lines: list[bytes], at: int, chance: int) -> None:
    del lines[at]


def _repeat(lines: list[bytes], at: int, chance: int) -> None:
    lines.insert(chance % (len(lines) + 1), lines[at])


def _swap(lines: list[bytes], at: int, chance: int) -> None:
    other = chance % len(lines)
    lines[at], lines[other] = lines[other], lines[at]


def _flip(lines: list[bytes], at: int, chance: int) -> None:
    if line := bytearray(lines[at]):
        line[(chance >> 3) % len(line)] ^= 1 << (chance & 7)
        lines[at] = bytes(line)


def _insert(lines: list[bytes], at: int, chance: int) -> None:
    inserted = _INSERTED[chance % len(_INSERTED)]
    place = (chance // len(_INSERTED)) % (len(lines[at]) + 1)
    lines[at] = lines[at][:place] + inserted + lines[at][place:]


def _insert_at_end(lines: list[bytes], at: int, chance: int) -> None:
    line, inserted = lines[at], _INSERTED[chance % len(_INSERTED)]
    place = max(0, len(line) - 2)
    lines[at] = line[:place] + inserted + line[place:]


def _cut(lines: list[bytes], at: int, chance: int) -> None:
    lines[at] = lines[at][: chance % (len(lines[at]) + 1)]


def _bare_lf(lines: list[bytes], at: int, chance: int) -> None:
    lines[at] = lines[at].replace(b"\r\n", b"\n")


def _bare_cr(lines: list[bytes], at: int, chance: int) -> None:
    lines[at] = lines[at].replace(b"\r\n", b"\r")


def _other_case(lines: list[bytes], at: int, chance: int) -> None:
    lines[at] = lines[at].swapcase()


def _space_around_colon(lines: list[bytes], at: int, chance: int) -> None:
    lines[at] = lines[at].replace(b":", (b" :", b"\t:", b":\t ", b": \t", b"::")[chance % 5], 1)


_MUTATIONS: Sequence[Mutation] = (
    *(_delete, _repeat, _swap, _flip, _insert, _insert_at_end, _cut),
    *(_bare_lf, _bare_cr, _other_case, _space_around_colon),
)


def mutated(lines: list[bytes], choices: Choices) -> list[bytes]:
    """The lines of a message, changed once or a few times."""
    lines = list(lines)
    for _ in (0, *choices.few(2)):
        mutation, at, chance = choices.pick(_MUTATIONS), choices.number(), choices.large_number()
        if lines:
            mutation(lines, at % len(lines), chance)
    return lines
