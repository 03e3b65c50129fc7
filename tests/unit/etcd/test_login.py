"""When logins are made, and how long they wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from weldr.etcd import login as module
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdError, EtcdTimeoutError, EtcdUnavailableError
from weldr.etcd.login import Login

CONFIG = EtcdConfig.from_text("http://a:2379", user="weldr", password="secret")


class FakeSession:
    """Answers logins with tokens, or does not answer."""

    def __init__(self) -> None:
        self.logins = 0
        self.failure: EtcdError | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.failures: list[EtcdError] = []

    async def authenticate(self, config: EtcdConfig) -> str:
        self.logins += 1
        await self.answering.wait()
        if self.failure is not None:
            raise self.failure
        return f"token {self.logins}"

    async def connect(self) -> Any:
        return self

    def failed(self, session: Any, error: EtcdUnavailableError) -> None:
        self.failures.append(error)

    def login(self) -> Login:
        return Login(CONFIG, self.connect, self.failed)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before logins, as long as chance may make them, and not waited for."""
    waited: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(pause_s: float) -> None:
        waited.append(pause_s)
        await real_sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module.random, "uniform", lambda _, longest: longest)
    return waited


async def test_many_who_ask_at_once_share_one_login(pauses: list[float]) -> None:
    session = FakeSession()
    login = session.login()
    await asyncio.gather(*(login.renew(None, 5) for _ in range(50)))
    assert (session.logins, login.token) == (1, "token 1")
    await login.renew(None, 5)
    assert session.logins == 1, "the token that was asked about is replaced already"


async def test_the_first_login_is_made_at_once_and_the_first_after_a_lost_session_at_any_moment(
    pauses: list[float],
) -> None:
    login = FakeSession().login()
    await login.renew(None, 5)
    login.note_lost_session()
    await login.renew("token 1", 5)
    await login.renew("token 2", 5)
    assert pauses[0] == 0
    assert pauses[1] >= 1
    assert 0 < pauses[2] < 1


async def test_while_logins_get_no_answer_the_pauses_between_them_grow(pauses: list[float]) -> None:
    session = FakeSession()
    session.failure = EtcdTimeoutError("no answer in time", endpoint="http://a:2379")
    login = session.login()
    for _ in range(6):
        with pytest.raises(EtcdUnavailableError) as failure:
            await login.renew(None, 5)
        assert not failure.value.maybe_applied, "the login failed, not the request that needed it"
    assert len(session.failures) == 6
    assert pauses[1] >= 2
    assert pauses[3] >= 2 * pauses[2] - 1
    assert 25 < pauses[5] < 35
    session.failure = None
    await login.renew(None, 5)
    await login.renew(login.token, 5)
    assert pauses[7] < 1


async def test_who_waits_for_a_login_waits_no_longer_than_he_can(pauses: list[float]) -> None:
    session = FakeSession()
    session.answering.clear()
    login = session.login()
    patient = asyncio.create_task(login.renew(None, 30))
    with pytest.raises(EtcdUnavailableError) as failure:
        await login.renew(None, 0.05)
    assert not failure.value.maybe_applied
    assert not patient.done()
    session.answering.set()
    await patient
    assert session.logins == 1
