"""Whole scenarios, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.answers import answer
from tests.fuzz.choices import Choices
from tests.fuzz.requests import stream
from tests.fuzz.scenario import Client, Scenario

_REQUEST_CHOICES = 40
_ANSWER_CHOICES = 40
_LIMITS = (65536, 65536, 65536, 1000, 0)


def _choices(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=count, max_size=count)


def _client(requests: list[bytes], others: bytes, cuts: bytes) -> Client:
    return Client(stream(requests, Choices(others)), cuts)


clients = st.builds(
    _client,
    requests=st.lists(_choices(_REQUEST_CHOICES), min_size=1, max_size=4),
    others=_choices(12),
    cuts=st.binary(max_size=8),
)
"""One client with up to four requests."""


def _scenarios(fewest_steps: int) -> st.SearchStrategy[Scenario]:
    answers = _choices(_ANSWER_CHOICES).map(lambda data: answer(Choices(data)))
    return st.builds(
        Scenario,
        clients=st.lists(clients, min_size=1, max_size=2).map(tuple),
        answers=st.lists(answers, max_size=4).map(tuple),
        steps=st.binary(min_size=fewest_steps, max_size=40),
        connects=st.one_of(st.just(b""), st.just(b""), st.binary(max_size=4)),
        limit=st.sampled_from(_LIMITS),
    )


scenarios = _scenarios(0)
"""Anything from one good request to much of everything at once."""
eventful_scenarios = _scenarios(20)
"""Those in which more happens before all is let go its way."""
