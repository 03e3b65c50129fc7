"""The dashboard: until it is painted, until a change is seen, and what looking costs etcd and the managers."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import socket
import statistics
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.browser import chromium, visit, why_no_browser
from tests.support.etcd import newest
from tests.support.instance import wait_until
from tests.support.showcase import PREFIX, Showcase

NAME = "dashboard"

# Notes by the page's clock, which is the machine's, when the name of a service is seen first.
_OBSERVE = """() => {
    const list = document.getElementById("services-list");
    window.seenAt = {};
    const look = () => {
        for (const { textContent } of list.querySelectorAll(".toggle .text")) {
            window.seenAt[textContent] ??= Date.now();
        }
    };
    new MutationObserver(look).observe(list, { childList: true, subtree: true });
}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--backends", type=int, default=500)
    parser.add_argument("--visits", type=int, default=10)
    parser.add_argument("--puts", type=int, default=50)
    parser.add_argument("--history", dest="history_s", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--quiet", dest="quiet_s", type=float, default=20.0, metavar="SECONDS")


def run(options: argparse.Namespace) -> None:
    reason = why_no_browser()
    if reason is not None:
        raise SystemExit(reason)
    with (
        Showcase(options.instances, options.services, options.backends) as show,
        chromium() as browser,
    ):
        print(
            f"etcd {newest().label}, {options.instances} instances, {options.services} services,"
            f" {options.backends} backends, Chromium {browser.version}"
        )
        url = f"http://{show.instances[0].admin}/"
        print(_cost("nobody looks     ", show, options.quiet_s))
        # With two minutes of history it has the most to send and to draw.
        time.sleep(options.history_s)
        _paint(browser, url, options.visits)
        with visit(browser) as visitor:
            visitor.page.goto(url)
            visitor.page.wait_for_selector(".service")
            _appear(visitor.page, show, options.puts)
            visitor.page.wait_for_timeout(2000)
            print(_cost("one page is open ", show, options.quiet_s, visitor.page))
            visitor.page.locator("button.toggle").first.click()
            print(_cost("… and one service", show, options.quiet_s, visitor.page))
        print(_sizes(show, options.quiet_s))


def _paint(browser: Any, url: str, visits: int) -> None:
    """From the navigation on, each time in a window without a cache."""
    found: dict[str, list[float]] = {"first paint": [], "all rows drawn": []}
    for _ in range(visits):
        with visit(browser) as visitor:
            page = visitor.page
            page.goto(url)
            _wait(page, "performance.getEntriesByName('weldr-drawn').length")
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            found["first paint"].append(paint)
            found["all rows drawn"].append(
                page.evaluate("performance.getEntriesByName('weldr-drawn')[0].startTime")
            )
    for name, times_ms in found.items():
        print(
            f"{name:15} median {statistics.median(times_ms):4.0f} ms,"
            f" worst {max(times_ms):4.0f} ms, of {visits}"
        )


def _appear(page: Any, show: Showcase, puts: int) -> None:
    """From the put of a backend of a new service until its row is in the page."""
    page.evaluate(_OBSERVE)
    times_ms = []
    for index in range(puts):
        name = f"new-{index}"
        began_s = time.time()
        show.put(f"backends/{name}/b1", "127.0.0.1:9001")
        _wait(page, f"window.seenAt['{name}']")
        times_ms.append(page.evaluate(f"window.seenAt['{name}']") - began_s * 1000)
        page.wait_for_timeout(50)
    times_ms.sort()
    print(
        f"put to page     median {statistics.median(times_ms):4.0f} ms, p99"
        f" {times_ms[int(0.99 * (len(times_ms) - 1))]:4.0f} ms, worst {times_ms[-1]:4.0f} ms, of {puts}"
    )


def _wait(page: Any, condition: str) -> None:
    """Until it holds. The page's policy allows Playwright no `wait_for_function`."""
    look = f"const look = () => ({condition}) ? done() : setTimeout(look, 5); look();"
    page.evaluate(f"() => new Promise((done) => {{ {look} }})")


def _cost(words: str, show: Showcase, quiet_s: float, page: Any = None) -> str:
    """What goes on in a quiet while, by etcd's own count."""
    methods = ("Put", "DeleteRange", "Txn", "Range", "LeaseTimeToLive", "LeaseKeepAlive")
    before, revision = _handled(show), _revision(show)
    cpu_s = sum(_cpu_s(instance.pid) for instance in show.instances)
    if page is None:
        time.sleep(quiet_s)
    else:
        page.wait_for_timeout(quiet_s * 1000)
    cpu_s = sum(_cpu_s(instance.pid) for instance in show.instances) - cpu_s
    after = _handled(show)
    told = ", ".join(
        f"{method} {(after[method] - before[method]) / quiet_s:.1f}/s"
        for method in methods
        if after[method] != before[method]
    )
    share = 100 * cpu_s / quiet_s / len(show.instances)
    return (
        f"{words} revisions {_revision(show) - revision}, etcd's requests: {told or 'none'};"
        f" {share:.1f}% of a core for each manager"
    )


def _handled(show: Showcase) -> dict[str, int]:
    with urllib.request.urlopen(f"{show.etcd.endpoint}/metrics", timeout=10) as response:
        text = response.read().decode()
    found: dict[str, int] = {}
    for kind in ("grpc_server_started_total", "grpc_server_msg_received_total"):
        for method, count in re.findall(rf'^{kind}{{grpc_method="(\w+)".*}} (\S+)$', text, re.MULTILINE):
            found[method] = max(found.get(method, 0), int(float(count)))
    return found | {method: 0 for method in ("LeaseTimeToLive", "LeaseKeepAlive") if method not in found}


def _revision(show: Showcase) -> int:
    answer = json.loads(show.etcd.etcdctl("get", "nothing", "-w", "json"))
    return int(answer["header"]["revision"])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _sizes(show: Showcase, quiet_s: float) -> str:
    """What instances send, seen by a viewer of our own."""
    received = [0]
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        threading.Thread(target=_receive, args=(server, received), daemon=True).start()
        show.put("viewers/bench", {"address": f"{host}:{port}", "key": secrets.token_hex(32)})
        wait_until(lambda: received[0], "an instance sends")
        time.sleep(4)
        past, began_s = received[0], time.monotonic()
        time.sleep(quiet_s)
        rate = (received[0] - past) / (time.monotonic() - began_s)
        show.etcd.etcdctl("del", f"{PREFIX}viewers/bench")
    count = len(show.instances)
    return (
        f"each instance sends {past / count / 1024:.0f} KiB at first and {rate / count / 1024:.1f} KiB/s then"
    )


def _receive(server: socket.socket, received: list[int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            connection.sendall(bytes(16))
            threading.Thread(target=_drain, args=(connection, received), daemon=True).start()


def _drain(connection: socket.socket, received: list[int]) -> None:
    with contextlib.suppress(OSError), connection:
        while data := connection.recv(65536):
            received[0] += len(data)
