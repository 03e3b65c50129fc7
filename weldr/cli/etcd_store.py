"""The keys in etcd itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

from weldr.cli.store import Left, State, StoreError
from weldr.control.admin.mirror import Mirror, News
from weldr.etcd.client import EtcdClient
from weldr.etcd.commit import Committed, EditConflictError, EditContentionError, commit
from weldr.etcd.errors import EtcdCompactedError, EtcdError, EtcdFutureRevisionError
from weldr.etcd.follow import Change, Follower, Snapshot
from weldr.etcd.history import read_past
from weldr.model.catalog import Catalog
from weldr.model.decode import decode
from weldr.model.departure import Departure, departure_of
from weldr.model.edits import Edit
from weldr.model.events import KeyValue
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace, Kind
from weldr.model.past import Past

_LEASE_LIMIT_S = 2.0


class EtcdStore:
    """Reads and writes by an etcd client."""

    hides_secrets = False

    def __init__(self, client: EtcdClient, keys: KeySpace) -> None:
        self.client = client
        self.keys = keys

    async def read(self, revision: int = 0) -> State:
        """All keys, now or as they were."""
        with told_failures(revision):
            read = await self.client.read_prefix(self.keys.prefix_bytes, revision=revision)
        return state_of(self.keys, read.revision, read.key_values)

    async def commit(self, edits: Sequence[Edit], *, dry_run: bool = False) -> Committed:
        """Make edits at one instant."""
        with told_failures():
            return await commit(
                self.client, self.keys, [edit.name for edit in edits], lambda held: edits, dry_run=dry_run
            )

    async def past(self, limit: int, only: KeyName | None = None) -> Past:
        """The last changes of configuration."""
        with told_failures():
            return await read_past(self.client, self.keys, limit, only)

    async def follow(self) -> AsyncIterator[State | News | Left]:
        """First the state, then everything that happens, for good."""
        news: list[News] = []
        catalog, mirror = Catalog(self.keys), Mirror(self.keys, news.append)
        follower = Follower(self.client, self.keys.prefix_bytes)
        first = True
        with told_failures():
            # Without a connection a follower waits for one; a person wants to be told.
            await self.client.range(self.keys.prefix_bytes, limit=1, keys_only=True)
            async with contextlib.aclosing(follower.batches()) as batches:
                async for changes in batches:
                    catalog = _folded(catalog, changes)
                    mirror.take(changes, catalog)
                    if first:
                        first = False
                        pairs = [pair for kind in Kind for pair in mirror.of_kind(kind)]
                        yield state_of(self.keys, mirror.revision, pairs)
                    for found in news:
                        yield found
                        async for left in self._left(found):
                            yield left
                    news.clear()

    async def _left(self, news: News) -> AsyncIterator[Left]:
        for moment in news.moments:
            for change in moment.changes:
                if change.name.kind is Kind.BACKEND and change.after is None and change.before is not None:
                    with contextlib.suppress(EtcdError):
                        yield Left(change.name, await self._departure(change.before))

    async def _departure(self, before: KeyValue) -> Departure:
        value = decode(Kind.BACKEND, before.value)
        found = departure_of(value, before.lease, None)
        if found is None:
            lives = await self.client.lease_lives(before.lease, timeout_s=_LEASE_LIMIT_S)
            found = departure_of(value, before.lease, lives)
        assert found is not None
        return found


def _folded(catalog: Catalog, changes: Sequence[Change]) -> Catalog:
    for change in changes:
        if isinstance(change, Snapshot):
            catalog = catalog.resync(change.revision, change.key_values)
        else:
            catalog = catalog.fold([change])
    return catalog


def state_of(keys: KeySpace, revision: int, pairs: Sequence[KeyValue]) -> State:
    """The state that a read found."""
    found, strangers = {}, []
    for pair in pairs:
        try:
            found[keys.parse(pair.key)] = pair
        except KeyLayoutError:
            strangers.append(pair)
    return State(revision, found, tuple(strangers))


@contextlib.contextmanager
def told_failures(revision: int = 0) -> Iterator[None]:
    """Failures of etcd in one line for a person."""
    try:
        yield
    except EtcdCompactedError:
        raise StoreError(f"etcd has compacted revision {revision}: its keys are not known any more") from None
    except EtcdFutureRevisionError:
        raise StoreError(f"there is no revision {revision} yet") from None
    except (EditConflictError, EditContentionError) as error:
        raise StoreError(f"{error}: nothing was written") from None
    except EtcdError as error:
        unknown = ": whether the change was made is not known" if error.maybe_applied else ""
        raise StoreError(f"{error}{unknown}") from None
