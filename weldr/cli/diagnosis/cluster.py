"""What is under the prefix: permissions, keys, and the instances, whose clocks are compared, too."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from weldr.cli.check import judged
from weldr.cli.diagnosis.finding import Finding, Level
from weldr.etcd.client import Compare, EtcdClient, Put
from weldr.etcd.errors import EtcdAuthError
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace, Kind
from weldr.model.values import Instance

_WRITTEN = (
    Kind.INSTANCE,
    Kind.HEALTH,
    Kind.ELECTION,
    Kind.HOLDER,
    Kind.SECRET,
)
"""What every instance writes."""
_MOST_SKEW_S = 2.0
_ASK_S = 3.0
_SAMPLES = 7


async def measure(client: EtcdClient, keys: KeySpace) -> tuple[list[float], list[float]]:
    """What some reads and some writes took, in seconds; the writes leave nothing behind.

    Raises `EtcdError`.
    """
    reads_s, writes_s = [], []
    for _ in range(_SAMPLES):
        began_s = time.perf_counter()
        await client.range(keys.prefix_bytes, limit=1)
        reads_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        lease = await client.grant_lease(5)
        writes_s.append(time.perf_counter() - began_s)
        await client.revoke_lease(lease.id)
    return reads_s, writes_s


async def judge_permissions(client: EtcdClient, keys: KeySpace) -> list[Finding]:
    """Whether this user may write what instances write: etcd judges also what a transaction does not do.

    Raises `EtcdError`.
    """
    findings = []
    for kind in _WRITTEN:
        prefix = keys.of_kind(kind)
        key = prefix + b"doctor"
        never = Compare.create_revision(key, "<", 0)
        try:
            await client.transaction([never], [Put(key, b"")])
        except EtcdAuthError as error:
            shown = prefix.decode("utf-8", "backslashreplace")
            do = f"etcdctl role grant-permission ROLE --prefix=true readwrite {shown}"
            findings.append(
                Finding(Level.ERROR, "permissions", f"{shown} may not be written: {error.reason}", do)
            )
    return findings or [
        Finding(Level.OK, "permissions", "this user may read the prefix and write what instances write")
    ]


def judge_keys(pairs: Mapping[KeyName, KeyValue]) -> list[Finding]:
    """The keys as `weldr check` judges them. Pure."""
    levels = Counter(found.level for found in judged({name: pair.value for name, pair in pairs.items()}))
    text = f"{len(pairs)} keys: {levels['error']} errors, {levels['warning']} warnings"
    if not levels:
        return [Finding(Level.OK, "keys", text)]
    return [Finding(Level.ERROR if levels["error"] else Level.WARNING, "keys", text, "weldr check names them")]


def instances_of(pairs: Mapping[KeyName, KeyValue]) -> dict[str, Instance]:
    """All that are alive, by name."""
    found = {}
    for name, pair in pairs.items():
        if name.kind is Kind.INSTANCE:
            try:
                found[name.names[0]] = msgspec.json.decode(pair.value, type=Instance)
            except msgspec.MsgspecError:
                continue
    return found


def judge_instances(instances: Mapping[str, Instance]) -> list[Finding]:
    """What they say of themselves. Pure."""
    if not instances:
        return [Finding(Level.WARNING, "instances", "no instance is alive under this prefix", "weldr run")]
    findings = []
    versions = sorted({instance.version for instance in instances.values()})
    if len(versions) > 1:
        text = f"instances run versions {', '.join(versions)}"
        findings.append(Finding(Level.WARNING, "instances", text, "upgrade the older ones: docs/operations.md"))
    newest = max(instance.applied for instance in instances.values())
    for name, instance in sorted(instances.items()):
        if instance.applied < newest:
            text = f"{name} serves revision {instance.applied}, others {newest}"
            do = "normal for a moment; else look at its log and its connection to etcd"
            findings.append(Finding(Level.WARNING, "instances", text, do))
        if instance.problem_count:
            first = instance.problems[0] if instance.problems else "it names none"
            text = f"{name} has {instance.problem_count} problems, the first: {first}"
            findings.append(Finding(Level.WARNING, "instances", text, f"weldr get instances/{name}"))
    if len(instances) == 1:
        text = "there is one instance: when its machine fails nobody answers"
        findings.append(Finding(Level.WARNING, "instances", text, "start another one on another machine"))
    return findings or [Finding(Level.OK, "instances", f"{len(instances)} instances, all up to date")]


async def judge_clocks(instances: Mapping[str, Instance]) -> list[Finding]:
    """Their clocks against this machine's, by the answers of their admin ports."""
    asked = {name: each.admin for name, each in instances.items() if not _is_loopback(each.admin)}
    skews = dict(zip(asked, await asyncio.gather(*map(_skew_s, asked.values())), strict=True))
    findings = []
    for name, skew_s in sorted(skews.items()):
        if skew_s is None:
            text = f"the clock of {name} cannot be seen: {asked[name]} does not answer from here"
            findings.append(Finding(Level.UNKNOWN, "clocks", text))
        elif abs(skew_s) > _MOST_SKEW_S:
            text = f"the clock of {name} is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
            findings.append(Finding(Level.WARNING, "clocks", text, "chronyc tracking, on both machines"))
        else:
            findings.append(Finding(Level.OK, "clocks", f"the clock of {name} is right to within 2 s"))
    hidden = sorted(instances.keys() - asked.keys())
    if hidden:
        text = f"{', '.join(hidden)} cannot be asked: the admin port is open to its own machine only"
        findings.append(Finding(Level.UNKNOWN, "clocks", text))
    return findings


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return False


async def _skew_s(admin: str) -> float | None:
    """How far the clock there is ahead, known to within a second."""
    import aiohttp

    try:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_ASK_S), trust_env=False
        ) as session:
            began_s = time.time()
            async with session.get(f"http://{admin}/healthz") as response:
                middle_s = (began_s + time.time()) / 2
                there_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (aiohttp.ClientError, TimeoutError, OSError, KeyError, ValueError):
        return None
    # Its seconds are cut off.
    return there_s + 0.5 - middle_s
