"""How virtual IPs stand, made from the keys in etcd: who holds which one, since when, by which token, why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weldr.control.vip.view import View
from weldr.control.vip.wanted import chosen
from weldr.etcd.clock import now_s
from weldr.etcd.follow import Snapshot
from weldr.model.events import KeyValue
from weldr.model.keys import KeySpace
from weldr.model.vips import Holder, Vip


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one virtual IP."""

    name: str
    vip: Vip
    holder: Holder | None
    """Who holds it, or held it last."""
    candidates: tuple[str, ...]
    """In the order of the queue; the first one leads."""
    aside: tuple[tuple[str, str], ...]
    """The instances that do not stand for it, and why."""
    problems: tuple[tuple[str, str], ...] = ()
    """What went wrong, by instance, though it may stand."""
    left_out: str = ""
    """Why no instance takes part in it."""

    @property
    def state(self) -> str:
        """`held`, `free`, or what is known of a holder that is in doubt."""
        if self.holder is None or self.holder.state == "released":
            return "free"
        if self.holder.instance not in self.candidates[:1]:
            return "held, out of touch with etcd"
        return f"held, not heard by {self.holder.doubted}" if self.holder.doubted else "held"

    def row(self) -> tuple[str, ...]:
        """As `COLUMNS` say."""
        holder = self.holder
        held = holder is not None and holder.state == "held"
        return (
            self.name,
            self.vip.ip,
            self.state,
            holder.instance if holder is not None and held else "nobody",
            str(holder.token) if holder is not None and held else "",
            holder.since if holder is not None else "",
            f"{'claimed' if held else f'free after {holder.instance}'}: {holder.reason}"
            if holder is not None
            else "",
            ", ".join(self.candidates) or "nobody",
            _lines(self.aside),
            self.left_out or _lines(self.problems),
        )

    def document(self) -> dict[str, object]:
        """The same for programs."""
        holder = self.holder
        last = None
        if holder is not None:
            last = {"instance": holder.instance, "token": holder.token, "state": holder.state}
            last |= {"since": holder.since, "reason": holder.reason, "doubted": holder.doubted}
        return {
            "state": self.state,
            "holder": last,
            "standing": list(self.candidates),
            "aside": dict(self.aside),
            "problems": dict(self.problems),
            "left_out": self.left_out,
        }


COLUMNS = (
    "VIP",
    "ADDRESS",
    "STATE",
    "HOLDER",
    "TOKEN",
    "SINCE",
    "LAST CHANGE",
    "STANDING",
    "NOT STANDING",
    "PROBLEMS",
)


def _lines(by_instance: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in by_instance)


def standings_of(pairs: Iterable[KeyValue], keys: KeySpace) -> list[Standing]:
    """Of all virtual IPs."""
    view = View(keys)
    view.fold([Snapshot(0, tuple(pairs), "start")], now_s())
    _, left_out = chosen(view.vips)
    found = []
    for name, wanted in sorted(view.vips.items()):
        candidates = tuple(contender.value.decode("utf-8", "replace") for contender in view.queue(name))
        told = {instance: states[name] for instance, states in view.states.items() if name in states}
        aside = tuple(
            (instance, state.reason or state.state)
            for instance, state in sorted(told.items())
            if instance not in candidates
        )
        problems = tuple((instance, state.problem) for instance, state in sorted(told.items()) if state.problem)
        holder, reason = view.holders.get(name), left_out.get(name, "")
        found.append(Standing(name, wanted.vip, holder, candidates, aside, problems, reason))
    return found
