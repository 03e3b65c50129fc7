"""All times of a virtual IP, and the inequality that makes them safe.

Notation, all in seconds: `t` is the moment before a renewal is sent. The holder may set the address as long as

    (1)  set + lifetime + KERNEL_LATENESS <= t + window

so that the kernel has removed it by `t + window`, whatever becomes of the process after the system call. Nobody
else sets it before that, since a successor needs our key gone from etcd, and

  - a lease that expired did so no earlier than `t + ttl`: etcd counts from when the renewal arrived. Hence

    (2)  window + DRIFT * ttl <= ttl

  - a key that another instance deleted was still there when the renewal was confirmed, after `t`. Who finds a
    holder's key gone while its lease lives waits `window / (1 - DRIFT)` from then on (`wait_s`).

The kernel keeps `valid_lft` in whole seconds, and not exactly: it looks for addresses that have run out no more
often than once a second, so one that is due just after it has looked (because any program has set any address
in the same namespace meanwhile) stays for up to one second more. Measured on Linux 6.18: `valid_lft 2`, and
another address set after 1.9 s: gone after 2.95 s. To that come the granularity of its timers (80 ms at 100
Hz).

    (3)  window = lifetime + KERNEL_LATENESS + ANSWER

is the shortest window in which an answer of etcd may take as long as ANSWER and still count. It is the one in
force where instances unseat a silent holder, because then everybody waits for it. Where they do not
(`failover: lease`) the window is as long as (2) allows, and a slower etcd will do.

A promise of another instance not to claim lasts `promise_s` from its arrival, so the holder may count it from
before it asked: with `t` the moment before the question, (1) holds with `promise_s * (1 - DRIFT)` for `window`.

Renewals go out four times within a lifetime. The holder asks the others as soon as it is without a confirmation
for `ask_after_s`, while the kernel still has time for several questions.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNEL_LATENESS_S = 1.1
ANSWER_S = 0.1
DRIFT = 0.01
"""How much faster or slower one host's clock may run than another's: one part in a hundred is far beyond."""

HEARTBEAT_S = 0.1
SILENCE_S = 0.3
"""Three heartbeats."""

LEAST_TTL_S = 3
MAX_TTL_S = 60


class TimingError(ValueError):
    """These times cannot be safe. Its text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one virtual IP. Raises `TimingError` unless they are safe."""

    ttl_s: int = 3
    """The lease's time to live. etcd may grant more, never less (`minLeaseTTL` in its lessor)."""
    lifetime_s: int = 1
    """`valid_lft` of the address, in the kernel's whole seconds."""
    unseating: bool = True
    """Whether others may delete a silent holder's key."""

    def __post_init__(self) -> None:
        longest_s = self.ttl_s * (1 - DRIFT)
        shortest_s = self.lifetime_s + KERNEL_LATENESS_S + ANSWER_S
        if self.lifetime_s < 1 or shortest_s > longest_s:
            longest_lifetime_s = max(1, int(longest_s - KERNEL_LATENESS_S - ANSWER_S))
            raise TimingError(
                f"a lifetime of {self.lifetime_s} s is not safe with a ttl of {self.ttl_s} s: the kernel may"
                f" keep the address {KERNEL_LATENESS_S} s longer, and etcd may take {ANSWER_S} s to answer;"
                f" expected a lifetime of 1 s to {longest_lifetime_s} s"
            )

    @property
    def window_s(self) -> float:
        """How long after a confirmed renewal was sent the address may still be there."""
        if self.unseating:
            return self.lifetime_s + KERNEL_LATENESS_S + ANSWER_S
        return self.ttl_s * (1 - DRIFT)

    @property
    def wait_s(self) -> float:
        """How long to wait for a holder whose key was deleted and which may be out of reach."""
        return wait_s(self.window_s)

    @property
    def promise_s(self) -> float:
        """How long another instance promises not to claim."""
        return float(self.ttl_s)

    @property
    def promised_window_s(self) -> float:
        """How long after the question a promise lets the address be there."""
        return self.promise_s * (1 - DRIFT)

    @property
    def renewal_s(self) -> float:
        """Between two renewals of a holder."""
        return self.lifetime_s / 4

    @property
    def following_renewal_s(self) -> float:
        """Between two renewals of a candidate that waits."""
        return self.ttl_s / 4

    @property
    def request_timeout_s(self) -> float:
        """For one request to etcd: an answer that comes later is of no use."""
        return self.ttl_s / 4

    @property
    def ask_after_s(self) -> float:
        """Without a confirmation for this long, the holder asks the others."""
        return self.lifetime_s * 0.4

    def latest_set_s(self, window_end_s: float) -> float:
        """Until when the address may be set for another lifetime: inequality (1)."""
        return window_end_s - self.lifetime_s - KERNEL_LATENESS_S


def wait_s(window_s: float) -> float:
    """How long a successor waits for a window of the holder's, by its own clock."""
    return window_s / (1 - DRIFT)
