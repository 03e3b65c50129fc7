"""When an instance may claim a virtual IP, and when it may unseat a silent holder. Pure.

Who stands first in the queue leads, but does not hold yet: another one may still have the address, by its
lease's last window or by promises. What etcd's record says of it decides:

| the record | what is needed |
| --- | --- |
| none, or released | nothing: nobody has it |
| held by an earlier life of this instance, on this host | nothing: it cannot be there twice |
| ... or on this machine, which was started anew since | nothing: its kernel has forgotten the address |
| held, its lease ended | its window is over: an expired lease outlasts it |
| held, its key gone, its lease alive | the key was deleted: wait for the window |
| ... and it has no peers | nothing more: without peers it keeps nothing by promises |
| ... and it names us a peer | our own promise has run out, and any that an earlier life of us may have given |
| ... and it does not name us | one of its peers, or itself, has refused it: it needs all of them |

Instances are told apart by name *and* machine. A second one with a peer's name is none of them: the peer may
live on where etcd does not see it, and promise.

Who does not hear a holder *doubts* it first: a word in the record, in whose presence no renewal counts. A
holder that is alive takes it away and goes on. One whose window has passed with the doubt in place, counted
from the last renewal that etcd knows of (`window_over_s`), has lost the address and is unseated.

The claim is a transaction that compares the record with the one that was judged here. So a holder that changes
its peers meanwhile makes the claim fail, and a claim makes such a change fail.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from weldr.control.vip.identity import started_anew
from weldr.model.vip_timing import DRIFT, SILENCE_S, wait_s
from weldr.model.vips import Holder, is_same_instance

NOBODY = ""
"""A peer that never promises anything."""


Named = tuple[str, str]
"""A peer as a record names it: the instance, and the machine that it is on."""


def to_be_asked(peers: Mapping[str, str]) -> frozenset[Named]:
    """Whose promise a holder needs while its record may name these peers, each on its machine. May it name
    none, no promise is of use: whoever comes finds nobody to ask, and claims."""
    return frozenset(peers.items()) or frozenset({(NOBODY, "")})


@dataclass(frozen=True, slots=True)
class Claim:
    """The address is free."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may not be free before `until_s`."""

    until_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class AskPeers:
    """Whether it is free is known to these; one that refuses the holder is enough."""

    names: tuple[str, ...]
    reason: str


Verdict = Claim | Wait | AskPeers


@dataclass(frozen=True, slots=True)
class Claimant:
    """What an instance knows when it leads the queue."""

    name: str
    host: str
    machine: str
    now_s: float
    boot_s: float
    """When this life of the process began."""
    promised_until_s: float
    gone_since_s: float
    """When the holder's key was first seen to be gone."""
    lease_gone: bool
    """Whether etcd has the holder's lease no longer."""
    refused: bool
    """Whether somebody whose promise the holder needs has refused it."""
    waited: bool = False
    """Whether we unseated the holder ourselves, after waiting for its window (or, in mode `fast`, without)."""


def may_claim(record: Holder | None, me: Claimant) -> Verdict:
    """See the module."""
    if me.now_s < me.promised_until_s:
        return Wait(me.promised_until_s, "it has promised the holder not to claim")
    if record is None or record.state == "released" or is_own(record, me.name, me.host, me.machine):
        return Claim()
    window_end_s = me.gone_since_s + wait_s(record.window_s)
    if not me.lease_gone and me.now_s < window_end_s and not me.waited:
        return Wait(window_end_s, f"the address may still be on {record.instance}")
    if not record.peers:
        return Claim()
    if me.name in record.peers and is_same_instance(record, me.name, me.machine):
        forgotten_s = me.boot_s + record.promise_s / (1 - DRIFT)
        if me.now_s < forgotten_s:
            return Wait(forgotten_s, "an earlier life of this instance may have promised not to claim")
        return Claim()
    if me.refused:
        return Claim()
    names = tuple(sorted({*record.peers, record.instance}))
    return AskPeers(names, f"asks the peers of {record.instance}, which held it last: {', '.join(names)}")


def is_own(record: Holder, name: str, host: str, machine: str) -> bool:
    """Whether an earlier life of this instance is the holder, and its address either on this host or gone."""
    if record.instance != name or not is_same_instance(record, name, machine):
        return False
    return record.host == host or started_anew(record.host, host)


def released_token(record: Holder | None) -> int:
    """Of whoever held it last, if that has given it up; 0 if not."""
    return record.token if record is not None and record.state == "released" else 0


def window_over_s(doubted_s: float, asked_s: float, idle_s: float, window_s: float) -> float:
    """When the window of a holder that is doubted since `doubted_s` is over, all by our own clock.

    No renewal after the doubt counts. And none was made in the last `idle_s` seconds before `asked_s`, by the
    clock of etcd.
    """
    renewed_s = min(doubted_s, asked_s - idle_s * (1 - DRIFT)) if idle_s > 0 else doubted_s
    return renewed_s + wait_s(window_s)


def may_unseat(
    record: Holder, me: str, silent_s: float, heard_by: Collection[str], known_by: Collection[str]
) -> bool:
    """Whether the holder is so silent that its key may be deleted.

    `silent_s` is for how long we did not hear it; `heard_by` are those of its peers that say that they hear
    it, and `known_by` those that we hear ourselves and whose word is thus known. Whose word is not known may
    hear it. A holder that a majority may hear, itself counted, keeps its seat.
    """
    if silent_s < SILENCE_S or me not in record.peers:
        return False
    others = set(record.peers) - {me}
    may_hear = {name for name in others if name in heard_by or name not in known_by}
    return 2 * (1 + len(may_hear)) <= 1 + len(record.peers)
