"""What happens to an instance: stopped, killed, frozen, restarted, upgraded."""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

from tests.hosts.cases.terms import STAYS_S, Value
from tests.hosts.namespaces import inside
from tests.hosts.site import PORT, Site, Trial
from tests.support.instance import LIMIT_S, wait_until


def stopping(site: Site, value: Value) -> None:
    """An instance that stops hands over, no request is lost, and who is connected is told at once."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client, _connected(site, trial.address) as connection:
            began_s = time.monotonic()
            trial.instances[holder].signal(signal.SIGTERM)
            trial.watcher.wait(trial.address, *trial.others(holder))
            assert _is_reset(connection)
            client.wait_good()
            assert trial.lost(client, began_s) == 0
            assert trial.instances[holder].wait() == 0
        assert site.get("holders/web")["instance"] != holder


def _connected(site: Site, address: str) -> socket.socket:
    with inside(site.client_host.namespace):
        return socket.create_connection((address, PORT), LIMIT_S)


def _is_reset(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def started_together(site: Site, value: Value) -> None:
    """All three instances are started at the same instant, and later the key comes at the same instant for all:
    exactly one claims, and nobody else ever does."""
    with Trial(site, {"web": value}, hosts=0) as trial, tempfile.NamedTemporaryFile() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for host in site.hosts:
            trial.start(host.name, "flock", "--shared", "--no-fork", gate.name)
        commands = [Path(f"/proc/{instance.pid}/comm") for instance in trial.instances.values()]
        wait_until(lambda: {command.read_text() for command in commands} == {"flock\n"}, "all wait at the gate")
        fcntl.flock(gate, fcntl.LOCK_UN)
        assert _only_holders(trial, trial.wait_settled())
        site.delete("vips/web")
        trial.watcher.wait(trial.address, None)
        began_s = time.monotonic()
        site.put("vips/web", value)
        assert _only_holders(trial, trial.wait_settled(), began_s)


def _only_holders(trial: Trial, holder: str, since_s: float = 0.0) -> bool:
    """Whether that one alone has held the address, and goes on so for a while."""
    time.sleep(STAYS_S / 2)
    return trial.only_holders(since_s) == {holder}


def killed(site: Site, value: Value) -> None:
    """An instance that is killed, manager and workers, leaves no address behind, and another one takes it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            trial.instances[holder].kill()
            trial.watcher.wait(trial.address, *trial.others(holder))
            client.wait_good()


def manager_killed(site: Site, value: Value) -> None:
    """A manager that is killed alone takes its workers with it, and the kernel the address."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            trial.instances[holder].signal(signal.SIGKILL)
            trial.watcher.wait(trial.address, *trial.others(holder))
            client.wait_good()
            began_s = time.monotonic()
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0


def frozen(site: Site, value: Value) -> None:
    """A manager that is frozen loses the address by the kernel's hand, and thaws without it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        trial.instances[holder].signal(signal.SIGSTOP)
        successor = trial.watcher.wait(trial.address, *trial.others(holder))
        taken_s = time.monotonic()
        trial.instances[holder].signal(signal.SIGCONT)
        time.sleep(STAYS_S)
        assert trial.only_holders(taken_s) == {successor}


def stalled(site: Site, value: Value) -> None:
    """A stall of the manager that is shorter than the lifetime moves nothing, and what is shorter by a renewal
    is not even noticed."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for _ in range(3):
                _stall(trial, holder, 0.6)
            assert trial.lost(client, began_s) == 0
            assert {span.holders for span in trial.spans(began_s)} == {(holder,)}
        for _ in range(3):
            _stall(trial, holder, 0.9)
        assert trial.only_holders(began_s) == {holder}
        assert trial.watcher.wait(trial.address, holder) == holder


def _stall(trial: Trial, name: str, stall_s: float) -> None:
    trial.instances[name].signal(signal.SIGSTOP)
    time.sleep(stall_s)
    trial.instances[name].signal(signal.SIGCONT)
    time.sleep(1.0)


def wall_clocks(site: Site, value: Value) -> None:
    """Wall clocks that are an hour ahead or behind are of no importance."""
    assert shutil.which("faketime") is not None, "the command faketime is missing: install it"
    with Trial(site, {"web": value}, hosts=0) as trial:
        for host, shift in zip(site.hosts, ("+1h", "-1h", "+0"), strict=True):
            trial.start(host.name, "faketime", "--exclude-monotonic", "-f", shift)
        holder = trial.wait_settled()
        trial.instances[holder].kill()
        trial.watcher.wait(trial.address, *trial.others(holder))


def rolling_restart(site: Site, value: Value) -> None:
    """All three are restarted, one after the other, under load: no request is lost."""
    with Trial(site, {"web": value}) as trial:
        trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for name in list(trial.instances):
                trial.instances[name].signal(signal.SIGTERM)
                assert trial.instances[name].wait() == 0
                trial.start(name)
                trial.wait_settled()
            assert trial.lost(client, began_s) == 0


def moved_by_hand(site: Site, value: Value) -> None:
    """`weldr vip move` has the one that is named hold the address, and nothing is lost."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for name in [*trial.others(holder), holder]:
                assert trial.command("vip", "move", "web", "--to", name) == f"web is held by {name}\n"
                assert trial.watcher.wait(trial.address, name) == name
                trial.wait_settled()
            assert trial.lost(client, began_s) == 0
        assert "held" in trial.command("vip", "list")
