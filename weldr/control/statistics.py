"""What the workers count, merged: of each service and backend that there is, since the instance began.

Workers send what they counted since the last time, so that one that dies takes at most a second of it along.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from weldr.control.request_sums import RequestSums
from weldr.model.frames import Tallies
from weldr.model.incidents import Incidents
from weldr.model.tally import Tally
from weldr.model.traffic import DEFAULT_SERVICE, Traffic


class Statistics:
    """Owner of the sums."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        """By service and backend; without a backend the requests that reached none."""
        self.sums = RequestSums()
        """By service and by route, also of backends that have gone: what only grows."""
        self.incidents: dict[str, Incidents] = {}
        """By service."""
        self.access_lines_dropped = 0
        """Lines that the access log could not take."""
        self.on_counted: Callable[[Tallies], None] = lambda counted: None
        """Sees what a worker has counted, before it is added up; it must keep nothing of that."""
        self._traffic = Traffic()
        self._owes_another_look = False

    def add(self, counted: Tallies) -> None:
        """Count what a worker has counted."""
        self.on_counted(counted)
        self.access_lines_dropped += counted.access_lines_dropped
        for tally in counted.tallies:
            way = tally.service, tally.backend
            self.tallies.setdefault(way, Tally(*way)).add(tally)
            self.sums.add(tally, counted.routes)
        for incidents in counted.incidents:
            sums = self.incidents.get(incidents.service)
            if sums is None:
                self.incidents[incidents.service] = incidents
            else:
                sums.add(incidents)

    def forget_absent(self, traffic: Traffic) -> None:
        """Drop what belongs to backends and services that are gone: nobody bounds how many come and go.

        Once more after the traffic has changed, since workers still count what they had begun.
        """
        if traffic is self._traffic and not self._owes_another_look:
            return
        self._owes_another_look = traffic is not self._traffic
        self._traffic = traffic
        named = {"", DEFAULT_SERVICE, *traffic.services, *_targets(traffic)}
        self.tallies = {way: tally for way, tally in self.tallies.items() if _exists(way, traffic, named)}
        self.sums.keep(named, traffic.routes)
        self.incidents = {name: each for name, each in self.incidents.items() if name in named}


def _targets(traffic: Traffic) -> Iterator[str]:
    return (name for route in traffic.routes.values() for name in route.service_names)


def _exists(way: tuple[str, str], traffic: Traffic, named: Container[str]) -> bool:
    service, backend = way
    if not backend:
        return service in named
    return service in traffic.services and backend in traffic.services[service].backends
