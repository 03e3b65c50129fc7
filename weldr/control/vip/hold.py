"""A virtual IP that is held: by which token, and until when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from weldr.model.vip_timing import Timing

_SYSTEM_CALL_S = 0.02


@dataclass(slots=True)
class Hold:
    """Leadership as a deadline, never as a flag."""

    token: int
    timing: Timing
    window_end_s: float
    """Nobody else sets the address before this."""
    expires_s: float
    """When the kernel removes the address, if it is on time."""
    confirmed_s: float
    """When the last confirmation of etcd that came in time was asked for."""
    promised_until_s: float = float("-inf")
    """Until when all peers have promised not to claim."""
    asked_s: float = float("-inf")
    """When the peers were last asked."""
    asked_too_few_s: float = float("-inf")
    """Who was asked before this, or then, were not all peers that there are now."""

    def confirm(self, sent_s: float) -> None:
        """etcd said that we lead, in answer to what was sent then."""
        self.window_end_s = max(self.window_end_s, sent_s + self.timing.window_s)

    def promise(self, sent_s: float) -> None:
        """All peers have promised, in answer to what was sent then."""
        if sent_s <= self.asked_too_few_s:
            return
        self.promised_until_s = max(self.promised_until_s, sent_s + self.timing.promised_window_s)
        self.window_end_s = max(self.window_end_s, self.promised_until_s)

    def forget_promises(self, now_s: float) -> None:
        """There is about to be a peer that has promised nothing: it waits for a window after the last renewal,
        and for nothing that others have promised."""
        self.asked_too_few_s = now_s
        self.promised_until_s = float("-inf")
        self.window_end_s = self.confirmed_s + self.timing.window_s

    @property
    def latest_set_s(self) -> float:
        """Until when the address may be set for another lifetime."""
        return self.timing.latest_set_s(self.window_end_s)

    def may_set_again(self, now_s: float) -> bool:
        """Whether there is time to set an address that is there for another lifetime. On a busy host that takes
        some: what ends too late takes the address away, and what is left out does not."""
        return now_s <= self.latest_set_s - _SYSTEM_CALL_S

    def note_set(self, set_s: float) -> None:
        """The address was set, no earlier than this."""
        self.expires_s = set_s + self.timing.lifetime_s

    def should_ask(self, now_s: float) -> bool:
        """Whether it is time to ask the peers for promises."""
        silent = now_s - self.confirmed_s > self.timing.ask_after_s
        return silent and now_s - self.asked_s >= self.timing.renewal_s
