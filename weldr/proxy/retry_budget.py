"""How many requests of a service may be sent once more than clients asked for. Pure: time is passed in.

What is sent again when all backends are slow or failing makes that worse, up to as many times the load as each
request is tried. The budget bounds it to a share of what was asked for.
"""

from __future__ import annotations

from weldr.model.resilience import RetryBudget
from weldr.proxy.window import Window


class Budget:
    """One service's, in one worker. Hedges are paid from it, too."""

    __slots__ = ("_extra", "_policy", "_sent", "sent")

    def __init__(self, policy: RetryBudget) -> None:
        self.sent = 0
        """Tries since the last `tick`, whether the first of a request or another: counted by who sends them."""
        self._policy = policy
        self._sent = Window(policy.window_s)
        self._extra = Window(policy.window_s)

    def tick(self, now_s: float) -> None:
        """To be called a few times in each tenth of the window, so that `sent` is counted where it belongs."""
        if self.sent:
            self._sent.add(now_s, self.sent)
            self.sent = 0

    def take(self, now_s: float) -> bool:
        """Whether one more may be sent. If so, it is counted as one that was."""
        self.tick(now_s)
        extra = self._extra.total(now_s)
        asked = self._sent.total(now_s) - extra
        if extra >= max(self._policy.minimum, int(self._policy.share * asked)):
            return False
        self._extra.add(now_s)
        return True
