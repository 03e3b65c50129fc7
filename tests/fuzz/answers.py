"""What backends answer, from good to broken."""

from __future__ import annotations

from tests.fuzz.answer_parts import (
    EXCESS,
    GOOD_FIELDS,
    GOOD_STATUS_LINES,
    INTERIM,
    ODD_FIELDS,
    ODD_STATUS_LINES,
)
from tests.fuzz.bodies import CHUNKED, PLAIN, chunked
from tests.fuzz.choices import Choices
from tests.fuzz.mutations import mutated
from tests.fuzz.scenario import Answer, Finish, Start

_STARTS = (*([Start.COMPLETE] * 5), Start.HEAD)
_FINISHES = (*([Finish.KEEP] * 6), Finish.FIN, Finish.FIN, Finish.RST)
_WRONG_BY = (*([0] * 8), 1, -1)


def answer(choices: Choices) -> Answer:
    """One answer."""
    broken = choices.one_in(2)
    odd = choices.number() % 6 if broken else 0
    finish = choices.pick(_FINISHES)
    lines = [choices.pick(INTERIM), choices.pick(ODD_STATUS_LINES if odd == 1 else GOOD_STATUS_LINES)]
    lines += [choices.pick(GOOD_FIELDS) for _ in choices.few(2)]
    if odd >= 4:
        lines.insert(2, choices.pick(ODD_FIELDS))
    framing = choices.number() % 6
    if framing in (3, 4):
        body = chunked(choices)
        lines.append(CHUNKED)
    else:
        body = choices.pick(PLAIN)
        if framing == 5:
            finish = finish or Finish.FIN
        else:
            wrong_by = choices.pick(_WRONG_BY) if broken else 0
            lines.append(b"Content-Length: %d\r\n" % max(0, len(body) + wrong_by))
    if odd == 2:
        body += choices.pick(EXCESS)
    lines += [b"\r\n", body]
    if odd == 3:
        lines = mutated(lines, choices) or [b""]
    return Answer(
        head=b"".join(lines[:-1]),
        body=lines[-1],
        start=choices.pick(_STARTS),
        finish=finish,
        honest=not (broken and choices.one_in(4)),
        cuts=bytes(choices.number() for _ in choices.few(6)),
    )
