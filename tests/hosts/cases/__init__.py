"""Everything that happens to a virtual IP, each as a function of a site and the value of `vips/web`.

Each makes a trial with a watcher, which fails when two hosts hold the address together. `scripts/hosts` runs
all of them as often as one likes; the suite runs those that `test_hosts.py` names.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.hosts.cases.addresses import conflict, key_changes, removed_by_others
from tests.hosts.cases.instances import (
    frozen,
    killed,
    manager_killed,
    moved_by_hand,
    rolling_restart,
    stalled,
    started_together,
    stopping,
    wall_clocks,
)
from tests.hosts.cases.machines import copied, namesake, power_cut
from tests.hosts.cases.networks import (
    cut_off,
    followed_at_once,
    followed_by_lease,
    powered_down,
    stepped_back,
    unplugged,
    without_clients,
    without_peers,
)
from tests.hosts.cases.outages import (
    etcd_and_a_peer_lost,
    etcd_member_lost,
    etcd_paused,
    etcd_without_quorum,
    kept_without_etcd,
    lapses_with_its_lease,
    newcomer,
    newcomer_in_touch,
    newcomer_without_quorum,
    without_etcd,
)
from tests.hosts.cases.terms import Value
from tests.hosts.cases.upgrades import upgrade_cut_short, upgrade_cut_short_and_stopped, upgrading
from tests.hosts.site import Site

CASES: dict[str, Callable[[Site, Value], None]] = {
    case.__name__: case
    for case in (
        stopping,
        started_together,
        killed,
        manager_killed,
        cut_off,
        followed_at_once,
        followed_by_lease,
        powered_down,
        stepped_back,
        unplugged,
        frozen,
        stalled,
        without_etcd,
        without_peers,
        without_clients,
        etcd_member_lost,
        etcd_paused,
        etcd_without_quorum,
        etcd_and_a_peer_lost,
        lapses_with_its_lease,
        kept_without_etcd,
        newcomer,
        newcomer_in_touch,
        newcomer_without_quorum,
        key_changes,
        wall_clocks,
        rolling_restart,
        moved_by_hand,
        removed_by_others,
        conflict,
        upgrading,
        upgrade_cut_short,
        upgrade_cut_short_and_stopped,
        power_cut,
        namesake,
        copied,
    )
}
