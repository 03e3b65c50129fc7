"""Virtual IPs: what people write of them, and what instances write of them.

The value of `vips/<name>`, of `holders/<name>`, of `moves/<name>`, and a virtual IP's part of
`instances/<instance>`.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

import msgspec

from weldr.model.vip_timing import LEAST_TTL_S, MAX_TTL_S, Timing, TimingError

Command = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")]
"""The name of a program in the directory that the instance was given for commands."""


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


class Vip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A virtual IP as people write it."""

    address: str
    """`10.0.0.100` or `2001:db8::100`, by itself or with the length of a prefix."""
    interface: str | None = None
    """`None`: the one whose network contains the address."""
    announce: Literal["netlink", "exec", "none"] = "netlink"
    """Who puts the address in place: the kernel of this host, a command, or nobody (leadership alone)."""
    command: Command | None = None
    """For `announce: exec`: run with `acquire` and with `release`."""
    check: Command | None = None
    """Fails where this instance should not hold the address."""
    ttl_s: Annotated[int, msgspec.Meta(ge=LEAST_TTL_S, le=MAX_TTL_S)] = LEAST_TTL_S
    """Of the candidates' leases. etcd may grant longer ones, which then take that longer to end."""
    lifetime_s: Annotated[int, msgspec.Meta(ge=1, le=60)] = 1
    """How long the kernel keeps the address without word from weldr."""
    failover: Literal["lease", "strict", "fast"] = "strict"
    """When the holder is silent: wait for its lease, or unseat it, and then wait until its address must be
    gone, or do not wait, at the price of a moment with two holders."""
    on_etcd_loss: Literal["peers", "release"] = "peers"
    """Keep the address while every other instance promises not to claim it, or let it go."""
    on_conflict: Literal["report", "claim"] = "report"
    """Whether to claim an address that another host answers for."""
    priority: Annotated[
        dict[str, Annotated[int, msgspec.Meta(ge=-1000, le=1000)]], msgspec.Meta(max_length=256)
    ] = {}
    """By instance, or by zone as `zone:NAME`, where an instance's own entry counts more; 0 for those not named.
    The highest that stands comes first."""
    preempt: bool = False
    """Whether a holder gives way to a higher priority that comes later."""
    hold_down_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 30.0
    """How long another instance has to stand before the address is moved there for the sake of balance."""

    @property
    def place(self) -> str:
        """What no two hosts may have at a time: the address, and the link where it means something there
        alone. Empty for leadership alone, which puts the address nowhere."""
        if self.announce == "none":
            return ""
        ip = ipaddress.ip_address(self.ip)
        return f"{ip}%{self.interface or ''}" if ip.version == 6 and ip.is_link_local else str(ip)

    @property
    def interface_address(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        """The address with its prefix; one of its own unless another is given."""
        return ipaddress.ip_interface(self.address)

    @property
    def ip(self) -> str:
        """The address alone, in canonical form."""
        return str(self.interface_address.ip)

    def timing(self) -> Timing:
        """Its times.

        Raises `TimingError` for times that are not safe; a decoded value has passed that.
        """
        return Timing(ttl_s=self.ttl_s, lifetime_s=self.lifetime_s, unseating=self.failover != "lease")


def vip_fault(vip: Vip) -> tuple[str, str] | None:
    """What is wrong with a value whose types are right: the place in it, and one line."""
    try:
        ip = vip.interface_address.ip
    except ValueError:
        return "$.address", f"{vip.address!r} is no IP address: expected 10.0.0.100 or 2001:db8::100"
    if "%" in vip.address:
        return "$.address", f"{vip.address!r} has a zone: name its interface with `interface`"
    mapped = ip.version == 6 and ip.ipv4_mapped is not None
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or mapped or ip == _BROADCAST:
        return "$.address", f"{vip.address} is no address that can move between hosts: expected a unicast one"
    if ip.version == 6 and ip.is_link_local and vip.interface is None:
        return "$.interface", f"{vip.address} is link-local: name its interface"
    if vip.interface is not None and not 0 < len(vip.interface.encode()) < 16:
        return "$.interface", f"{vip.interface!r} is no name of an interface: expected 1 to 15 bytes"
    if (vip.announce == "exec") != (vip.command is not None):
        return "$.command", "`command` belongs to `announce: exec`, and only to it"
    try:
        vip.timing()
    except TimingError as error:
        return "$.lifetime_s", str(error)
    return None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a virtual IP, or held it last."""

    instance: str
    address: str
    token: int
    """The create revision of the holder's candidate key: grows with every holder."""
    lease: int
    """The holder's lease, in whose absence its key is known to have expired."""
    state: Literal["held", "released"]
    since: str
    """RFC 3339, by the holder's wall clock: for people only."""
    window_s: float
    """For how long after a confirmed renewal its address may be in place."""
    promise_s: float
    """How long a promise to this holder lasts."""
    host: str
    """Tells one running kernel's network namespace from all others: an address cannot be there twice."""
    peers: list[str] = []
    """Whose promise the holder needs when etcd is lost: no other instance may claim on etcd's word alone."""
    machines: dict[str, str] = {}
    """By instance, of itself and its peers: what machine each is on. Whoever has such a name on another machine
    is another instance."""
    doubted: str = ""
    """The instance that does not hear the holder and will take over, unless the holder takes this word away: a
    renewal counts only while there is none."""
    place: str | None = None
    """`Vip.place` as it was when the address was claimed: the key may have changed since, while the holder does
    not hear of it. `None`: an earlier version wrote the record."""
    reason: str = ""
    """Of the last change."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's wish to have a virtual IP elsewhere. Under a lease of seconds."""

    token: int
    """Of the holder that is to give it up: a wish that comes too late says nothing about the next holder."""
    to: str = ""
    """An instance, or empty for any other."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Where other instances reach this one directly."""

    address: str
    """`host:port`, UDP."""
    boot: str
    """Random, of this life of the process: a message recorded in another one is worth nothing."""
    zone: str = ""
    """Where it is, as `weldr run --zone` says."""
    machine: str = ""
    """See `Holder.machines`."""


def is_same_instance(record: Holder, name: str, machine: str) -> bool:
    """Whether an instance on that machine is the one of this name that the record speaks of, in whatever life,
    and not another one that was given its name."""
    # Who wrote the record may be of a version that knows no machines.
    return (record.machines.get(name) or machine) == machine


def priority_of(vip: Vip, instance: str, zone: str) -> int:
    """Of an instance in a zone, for a virtual IP."""
    of_zone = vip.priority.get(f"zone:{zone}", 0) if zone else 0
    return vip.priority.get(instance, of_zone)


class VipState(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance tells of one virtual IP."""

    state: str
    token: int = 0
    since: str = ""
    reason: str = ""
    problem: str = ""
    """What its command came to, if that failed."""
