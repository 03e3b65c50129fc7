"""A proxy that runs, on a core of its own."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import accounting
from benchmarks.peers.exact import check
from benchmarks.peers.process import ProxyProcess
from benchmarks.peers.proxies import Place, Proxy
from benchmarks.peers.works import WORKS
from tests.support.etcd import EtcdServer


class Running(ProxyProcess):
    """One proxy before one origin."""

    def __init__(self, proxy: Proxy, core: int, origin_port: int, etcd: EtcdServer) -> None:
        program = proxy.program()
        assert program is not None

        def command(directory: Path, port: int) -> list[str]:
            arguments = proxy.arguments(Place(directory, port, origin_port, etcd))
            # Set before the program begins: every thread and child of it inherits the core.
            return ["taskset", "-c", str(core), program, *arguments]

        super().__init__(proxy, command, lambda port: check(port, WORKS[0]))

    def cpu_s(self) -> float:
        return accounting.cpu_s(self.pid)

    def memory_bytes(self) -> int:
        return accounting.memory_bytes(self.pid)

    def largest_memory_bytes(self) -> int:
        return accounting.largest_memory_bytes(self.pid)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
