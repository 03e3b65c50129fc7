"""What happens in etcd and to backends is seen on the page at once, without a reload."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import new_prefix
from tests.browser.dashboard import backend, opened, problem, route, service, story
from tests.support.browser import LIMIT_MS, Visit, visit
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.ports import free_port
from tests.support.servers import NamedServer
from tests.support.site import Site

expect.set_options(timeout=LIMIT_MS)


_BREAK_THE_FIRST_ANSWER = """
const asked = window.fetch;
let broken = false;
window.fetch = async (path, options) => {
  const response = await asked(path, options);
  if (!broken && String(path).startsWith("/api/v1/keys")) {
    broken = true;
    response.text = () => Promise.reject(new TypeError("network error"));
  }
  return response;
};
"""


def test_an_answer_that_breaks_off_in_its_middle_is_asked_for_again(site: Site, browser: Any) -> None:
    site.put("backends/broken-off/b1", "127.0.0.1:9001")
    with visit(browser) as visitor:
        visitor.page.add_init_script(_BREAK_THE_FIRST_ANSWER)
        visitor.page.goto(site.url)
        expect(service(visitor.page, "broken-off")).to_contain_text("1/1 up")
        visitor.page.get_by_text("live", exact=True).wait_for()


def test_a_backend_registered_with_etcdctl_appears_without_a_reload(site: Site, visitor: Visit) -> None:
    page = visitor.page
    page.evaluate("window.stillTheSamePage = true")
    site.put("backends/appears/b1", "127.0.0.1:9001")
    expect(service(page, "appears")).to_be_visible()
    row = backend(page, "appears", "b1")
    expect(row).to_contain_text("127.0.0.1:9001")
    expect(row).to_contain_text("up")
    expect(
        story(page).filter(has_text="backend appears/b1 came: 127.0.0.1:9001, without a lease")
    ).to_be_visible()
    site.put("backends/appears/b1", "127.0.0.1:9002")
    expect(row).to_contain_text("127.0.0.1:9002")
    assert page.evaluate("window.stillTheSamePage") is True


def test_killing_a_backend_shows_that_it_is_down_and_why(site: Site, visitor: Visit) -> None:
    page = visitor.page
    check = '{"health": {"type": "tcp", "interval_s": 0.2, "fall": 2, "rise": 1}}'
    site.put("services/killed", check)
    # Nobody else may get its port while it is down.
    server = NamedServer("b1", free_port())
    with NamedServer("b2") as other:
        site.put("backends/killed/b1", server.address)
        site.put("backends/killed/b2", other.address)
        row = backend(page, "killed", "b1")
        expect(row).to_contain_text("up")
        server.close()
        expect(row).to_contain_text("down")
        expect(row).to_contain_text("it refused the connection")
        expect(service(page, "killed")).to_contain_text("1/2 up")
        expect(problem(page, "killed/b1")).to_contain_text("it refused the connection")
        expect(story(page).filter(has_text="backend killed/b1 is down")).to_be_visible()
        # What it is about is a press away.
        problem(page, "killed/b1").get_by_role("button").click()
        expect(service(page, "killed").get_by_role("button", name="killed", exact=True)).to_be_focused()
        with NamedServer("b1", server.port):
            expect(row).not_to_contain_text("refused")
            expect(problem(page, "killed/b1")).to_have_count(0)


def test_a_lease_that_runs_out_is_told_as_such_and_its_time_is_shown_before(site: Site, visitor: Visit) -> None:
    page = visitor.page
    lease = site.etcd.etcdctl("lease", "grant", "60").split()[1]
    site.put("backends/leased/b1", "127.0.0.1:9001", f"--lease={lease}")
    site.put("backends/leased/b2", "127.0.0.1:9002")
    row = backend(page, "leased", "b1")
    expect(row.locator(".lease")).to_contain_text(re.compile(r"[0-9]+ of 60 s"))
    site.put("backends/../b1", "127.0.0.1:9001", f"--lease={lease}")
    expect(backend(page, "..", "b1").locator(".lease")).to_contain_text(re.compile(r"[0-9]+ of 60 s"))
    expect(backend(page, "leased", "b2").locator(".lease")).to_contain_text("none")
    # For whoever follows the keys that is the same as its end by time.
    site.etcd.etcdctl("lease", "revoke", lease)
    expect(row).to_contain_text("left")
    expect(row).to_contain_text("its lease ran out")
    expect(story(page).filter(has_text="backend leased/b1 left, since its lease expired")).to_be_visible()
    expect(service(page, "leased")).to_contain_text("1/1 up")


def test_a_wrong_value_shows_as_a_problem_with_its_place_until_it_is_right(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("services/wrong", '{"timeouts": {"connect_s": "soon"}}')
    entry = problem(page, "services/wrong")
    expect(entry).to_contain_text("$.timeouts.connect_s")
    expect(entry).to_contain_text("Expected `float | null`, got `str`")
    site.put("services/wrong", '{"timeouts": {"connect_s": 1}}')
    expect(entry).to_have_count(0)


def test_a_wrong_backend_is_marked_where_it_stands(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("backends/marked/b1", "127.0.0.1:9001")
    site.put("backends/marked/b2", '{"url": "http://127.0.0.1:9001", "weight": -1}')
    row = backend(page, "marked", "b2")
    expect(row).to_contain_text("invalid")
    expect(row).to_contain_text("$.weight")
    expect(service(page, "marked")).to_contain_text("1/2 up")


def test_routes_stand_in_the_order_in_which_they_are_tried_and_can_be_explained(
    site: Site, visitor: Visit
) -> None:
    page = visitor.page
    with NamedServer("b1") as server:
        site.put("backends/explained/b1", server.address)
        site.put("backends/explained/b2", f'{{"url": "http://{server.address}", "drain": true}}')
        site.put("routes/z-wins", '{"host": "e.example", "path": "/a", "service": "explained", "priority": 5}')
        site.put("routes/a-later", '{"host": "e.example", "path": "/a/b", "service": "explained"}')
        names = page.locator(".route .id")
        expect(names).to_have_text(["z-wins", "a-later"])
        page.get_by_label("Where would this request go?").fill("http://e.example/a/b")
        page.keyboard.press("Enter")
        verdict = page.locator("#verdict")
        expect(verdict).to_contain_text("to the service explained, by the route z-wins")
        expect(verdict).to_contain_text("not tried: b2, drained")
        taken, passed = (route(page, name).locator(".reason") for name in ("z-wins", "a-later"))
        expect(taken).to_contain_text("it matches, and none that matches is before it")
        expect(passed).to_contain_text("it has priority 0")
        assert site.weldr.get("/a/b", host="e.example") == (200, "b1")
        page.get_by_label("Where would this request go?").fill("no url at all")
        page.keyboard.press("Enter")
        expect(verdict).to_contain_text("is no URL")
    for name in ("z-wins", "a-later"):
        site.etcd.etcdctl("del", f"{site.prefix}routes/{name}")


def test_traffic_shows_with_its_rate_latency_and_errors(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("routes/busy", '{"host": "busy.example", "service": "busy"}')
    with NamedServer("b1") as server:
        site.put("backends/busy/b1", server.address)
        wait_until(lambda: site.weldr.get(host="busy.example")[0] == 200, "it serves")
        row = opened(page, "busy")
        graph = row.locator("svg.traffic")

        def seen() -> bool:
            site.weldr.get(host="busy.example")
            return re.search("[1-9]", row.locator(".cell.requests .figure").inner_text()) is not None

        wait_until(seen, "the requests are counted")
        assert "a second now" in graph.get_attribute("aria-label")
        expect(row.locator(".cell.latency .figure")).to_contain_text("s · ")
        # In flight to a backend is what waits there now.
        server.hold()
        asking = threading.Thread(target=lambda: site.weldr.get(host="busy.example", limit_s=60))
        asking.start()
        expect(backend(page, "busy", "b1").locator(".flight .value")).to_have_text("1")
        server.release()
        asking.join(30)
        expect(backend(page, "busy", "b1").locator(".flight .value")).to_have_text("0")
        site.put("backends/busy/b1", "127.0.0.1:1")
        wait_until(lambda: site.weldr.get(host="busy.example")[0] >= 500, "it fails")

        def failures() -> bool:
            site.weldr.get(host="busy.example")
            return re.search("[1-9]", row.locator(".cell.errors .figure").inner_text()) is not None

        wait_until(failures, "the errors are counted")


def test_any_instance_shows_the_whole_fleet_and_who_holds_a_virtual_ip(browser: Any, site: Site) -> None:
    prefix = new_prefix()
    with (
        Instance("--instance", "one", etcd=site.etcd.endpoint, prefix=prefix) as one,
        NamedServer("b1") as server,
        visit(browser) as visitor,
    ):
        one.wait_ready()
        site.etcd.etcdctl("put", f"{prefix}backends/default/b1", server.address)
        site.etcd.etcdctl("put", f"{prefix}vips/front", '{"address": "10.20.0.9", "announce": "none"}')
        page = visitor.page
        page.goto(f"http://{one.admin}/")
        vip = page.locator(".vip").filter(has_text="front")
        expect(vip).to_contain_text("at one")
        with Instance("--instance", "two", etcd=site.etcd.endpoint, prefix=prefix) as two:
            two.wait_ready()
            entry = page.locator(".instance").filter(has=page.locator(".id").get_by_text("two", exact=True))
            expect(entry).to_contain_text("serving")

            # Only the other one is asked: what shows of it here came from there.
            def counted() -> bool:
                two.get()
                figures = entry.locator(".figures").inner_text()
                return re.match(r"(?!0 req/s)[0-9.<]+ req/s", figures) is not None

            wait_until(counted, "the other instance's requests show here")
            # It has read all keys at a later revision, of the same configuration.
            expect(page.locator(".instance .details")).to_contain_text(["applied", "applied"])
            expect(page.locator(".instance .details").get_by_text("behind")).to_have_count(0)
            expect(page.locator(".instance").filter(has=page.locator(".here:visible"))).to_contain_text(
                "0 req/s"
            )
            found = json.loads(site.etcd.etcdctl("get", "-w", "json", f"{prefix}instances/two"))
            two.kill()
            # Its lease has ten seconds, which nobody has to wait for.
            site.etcd.etcdctl("lease", "revoke", f"{found['kvs'][0]['lease']:x}")
            expect(entry).to_have_count(0)
            expect(story(page).filter(has_text="instance two left")).to_be_visible()
        one.kill()
        expect(page.get_by_text("not live:")).to_be_visible()
        expect(problem(page, "This page shows what was last known")).to_be_visible()


def test_an_instance_that_has_lost_etcd_is_told_as_such(browser: Any, own_etcd: EtcdServer) -> None:
    with Instance(etcd=own_etcd.endpoint) as weldr, visit(browser) as visitor:
        weldr.wait_ready()
        page = visitor.page
        page.goto(f"http://{weldr.admin}/")
        entry = page.locator(".instance")
        expect(entry).to_contain_text("serving")
        own_etcd.stop()
        expect(entry).to_contain_text("without etcd")
        expect(problem(page, weldr.name)).to_contain_text("serves what it last knew")
        own_etcd.start()
        expect(entry).to_contain_text("serving")
        assert visitor.complaints == []
