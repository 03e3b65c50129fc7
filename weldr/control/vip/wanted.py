"""Which of the virtual IPs in etcd an instance takes part in, and why not in the others. Pure.

The same on every instance, since it is decided by the keys alone. Two keys with one address would be two
elections for it, and so two holders: the key that was there first counts. A last good value in place of one
that cannot be understood comes behind all others, since who started later never saw it.
"""

from __future__ import annotations

from collections.abc import Mapping

from weldr.control.vip.view import View, WantedVip
from weldr.model.vips import Holder, Vip

MAX_VIPS = 64


def chosen(wanted: Mapping[str, WantedVip]) -> tuple[dict[str, Vip], dict[str, str]]:
    """Those to take part in, and for each of the others the reason."""
    taken: dict[str, Vip] = {}
    left_out: dict[str, str] = {}
    first: dict[str, str] = {}
    for name, found in sorted(wanted.items(), key=_order):
        vip = found.vip
        rival = first.setdefault(vip.place, name) if vip.place else name
        if rival != name:
            understood = found.kept and not wanted[rival].kept
            why = "whose value can be understood" if understood else "which was there first"
            left_out[name] = f"{vip.ip} is the address of vips/{rival}, {why}"
        elif len(taken) >= MAX_VIPS:
            left_out[name] = f"an instance takes part in {MAX_VIPS} virtual IPs at most, the oldest ones"
        else:
            taken[name] = vip
    return taken, left_out


def is_elsewhere(name: str, vip: Vip, other: str, record: Holder, view: View) -> bool:
    """Whether the address of `vip` is what that record of another key speaks of, so that whoever held it there
    may have it yet, whatever that key says by now."""
    if other == name or not vip.place:
        return False
    place = record.place
    if place is None:
        # An earlier version wrote it, by what the key says if that is older.
        now, pair = view.vips.get(other), view.records.get(other)
        place = record.address
        if now is not None and pair is not None and now.revision < pair.mod_revision and now.vip.ip == place:
            place = now.vip.place
    return place in (vip.place, vip.ip)


def _order(item: tuple[str, WantedVip]) -> tuple[bool, int, str]:
    name, found = item
    return (found.kept, found.created, name)
