"""What happens to machines: one loses power and comes back alone, another one is given a name in use."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator

from tests.hosts.cases.terms import STAYS_S, Value
from tests.hosts.site import Site, Trial
from tests.support.instance import wait_until

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MACHINE_ID = "/etc/machine-id"


def power_cut(site: Site, value: Value) -> None:
    """A pair loses power, and only who held the address comes back. Its kernel has forgotten the address, so it
    need not ask the one that is gone."""
    with Trial(site, {"web": value}, hosts=2) as trial:
        holder = trial.wait_settled()
        for instance in trial.instances.values():
            instance.kill()
        trial.watcher.wait(trial.address, None)
        with _another(_BOOT_ID) as wrapper:
            trial.start(holder, *wrapper)
            assert trial.watcher.wait(trial.address, holder) == holder


def namesake(site: Site, value: Value) -> None:
    """Another machine is given the name of one that seems to be gone, but only sees no etcd, as the holder
    does: it promises on, and the new one is none of the holder's peers."""
    with Trial(site, {"web": value}, spare=True) as trial:
        holder = trial.wait_settled()
        name = trial.others(holder)[0]
        for cut in (holder, name):
            site.network.isolate(trial.host(cut), "back")
        wait_until(lambda: site.get(f"instances/{name}") is None, "etcd has forgotten the peer")
        assert trial.watcher.holder(trial.address) == holder
        with _another(_MACHINE_ID) as wrapper:
            instance = site.weldr(site.spare, *wrapper, name=name)
            try:
                instance.wait_logged("ready: every worker serves the catalog")
                time.sleep(2 * STAYS_S)
                assert trial.watcher.holder(trial.address) == holder
                # Its place in the queue goes with it.
                instance.signal(signal.SIGTERM)
                assert instance.wait() == 0
            finally:
                instance.kill()
        for cut in (holder, name):
            site.network.plug(trial.host(cut), "back")
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) == holder


def copied(site: Site, value: Value) -> None:
    """A copy of the holder's machine is started while that one sees no etcd. The others then know the copy by
    that name, and promise nothing to the first any more; the copy waits for that."""
    with Trial(site, {"web": value}, spare=True) as trial:
        holder = trial.wait_settled()
        site.network.isolate(trial.host(holder), "back")
        wait_until(lambda: site.get(f"instances/{holder}") is None, "etcd has forgotten the holder")
        assert trial.watcher.holder(trial.address) == holder
        with _another(_BOOT_ID) as wrapper:
            instance = site.weldr(site.spare, *wrapper, name=holder)
            try:
                trial.watcher.wait(trial.address, site.spare.name)
                time.sleep(STAYS_S)
                assert trial.watcher.holder(trial.address) == site.spare.name
            finally:
                instance.kill()


@contextlib.contextmanager
def _another(path: str) -> Iterator[tuple[str, ...]]:
    """What to run a program by, so that it reads something else there."""
    with tempfile.NamedTemporaryFile("w") as file:
        text = str(uuid.uuid4())
        file.write(f"{text if path == _BOOT_ID else text.replace('-', '')}\n")
        file.flush()
        script = 'mount --bind "$0" "$1" && shift && exec "$@"'
        yield ("unshare", "--mount", "sh", "-c", script, file.name, path)
