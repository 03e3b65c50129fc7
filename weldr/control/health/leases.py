"""Asks etcd which leases are alive: the question behind every departure. See `departures.py`."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdClosedError, EtcdError

logger = logging.getLogger(__name__)

_AT_A_TIME = 64
# Answers about many leases are handed on together: each time the whole catalog is gone through.
_HANDED_ON_TOGETHER = 2048
_RETRY_PAUSE_S = 1.0


class LeaseInquiry:
    """Asks about whatever `unjudged` names, until each is answered or no longer named."""

    def __init__(
        self,
        client: EtcdClient,
        unjudged: Callable[[], set[int]],
        on_answers: Callable[[Mapping[int, bool]], None],
    ) -> None:
        """`on_answers` is told whether leases are alive."""
        self._client = client
        self._unjudged = unjudged
        self._on_answers = on_answers
        self._wanted = asyncio.Event()

    def ask(self) -> None:
        """`unjudged` names new ones."""
        self._wanted.set()

    async def run(self) -> None:
        """Ask for good."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while leases := list(itertools.islice(self._unjudged(), _HANDED_ON_TOGETHER)):
                answers: dict[int, bool] = {}
                for start in range(0, len(leases), _AT_A_TIME):
                    some = leases[start : start + _AT_A_TIME]
                    verdicts = zip(some, await asyncio.gather(*map(self._is_alive, some)), strict=True)
                    told = {lease: alive for lease, alive in verdicts if alive is not None}
                    answers |= told
                    if len(told) < len(some):
                        break  # It may take a while until etcd answers again.
                if answers:
                    self._on_answers(answers)
                else:
                    await asyncio.sleep(_RETRY_PAUSE_S)

    async def _is_alive(self, lease: int) -> bool | None:
        """`None` if etcd does not say."""
        try:
            return await self._client.lease_lives(lease)
        except EtcdClosedError:
            raise
        except EtcdError as error:
            logger.debug("etcd does not tell of a lease", extra={"lease": f"{lease:x}", "reason": str(error)})
            return None
