"""What people change from the page, with the mouse, by keyboard, and with a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_prefix
from tests.browser.dashboard import backend, opened, service, story
from tests.support.admin import Api
from tests.support.browser import LIMIT_MS, Visit, visit
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import NamedServer
from tests.support.site import Site

expect.set_options(timeout=LIMIT_MS)

WRITER, READER = "a-token-that-may-write", "a-token-that-may-read"


def answering(site: Site, host: str) -> set[str]:
    return {site.weldr.get(host=host)[1] for _ in range(8)}


def test_draining_from_the_page_stops_traffic_and_undraining_brings_it_back(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("routes/drained", '{"host": "drained.example", "service": "drained"}')
    with NamedServer("b1") as first, NamedServer("b2") as second:
        site.put("backends/drained/b1", first.address)
        site.put("backends/drained/b2", second.address)
        wait_until(lambda: answering(site, "drained.example") == {"b1", "b2"}, "both get requests")
        opened(page, "drained")
        expect(service(page, "drained")).to_contain_text("2/2 up")
        page.get_by_role("button", name="Drain drained/b1").click()
        row = backend(page, "drained", "b1")
        expect(row).to_contain_text("by the operator; nothing is in flight")
        assert json.loads(site.value("overrides/drained/b1")) == {"drain": True}
        wait_until(lambda: answering(site, "drained.example") == {"b2"}, "the drained one gets none")
        requests = first.requests
        for _ in range(10):
            assert site.weldr.get(host="drained.example") == (200, "b2")
        assert first.requests == requests
        expect(story(page).filter(has_text="backend drained/b1, by the operator: drained")).to_be_visible()
        # The last one takes a second press.
        button = page.get_by_role("button", name="Drain drained/b2")
        button.click()
        expect(backend(page, "drained", "b2")).to_contain_text("Drain the last one?")
        assert site.value("overrides/drained/b2") == ""
        page.get_by_role("button", name="Undrain drained/b1").click()
        wait_until(lambda: answering(site, "drained.example") == {"b1", "b2"}, "both get requests again")
        assert site.value("overrides/drained/b1") == ""


def test_a_weight_is_set_and_taken_back_beside_a_drain_that_stays(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("backends/weighed/b1", '{"url": "http://127.0.0.1:9001", "weight": 2}')
    site.put("backends/weighed/b2", "127.0.0.1:9002")
    site.put("overrides/weighed/b1", '{"drain": true}')
    row = backend(page, "weighed", "b1")
    # What the page does not know yet it would not keep.
    expect(row).to_contain_text("by the operator")
    page.get_by_role("button", name="Weight of weighed/b1", exact=True).click()
    page.get_by_label("New weight of weighed/b1").fill("7")
    page.keyboard.press("Enter")
    expect(row.locator(".weight .value")).to_have_text("7 (own 2)")
    assert json.loads(site.value("overrides/weighed/b1")) == {"drain": True, "weight": 7}
    page.get_by_role("button", name="Weight of weighed/b1", exact=True).click()
    row.get_by_role("button", name="Own (2)").click()
    expect(row.locator(".weight .value")).to_have_text("2")
    assert json.loads(site.value("overrides/weighed/b1")) == {"drain": True}


def test_an_instance_is_drained_and_taken_back_from_the_page(site: Site, visitor: Visit) -> None:
    page, name = visitor.page, site.weldr.name
    row = page.locator(".instance")
    page.get_by_role("button", name=f"Drain the instance {name}", exact=True).click()
    # The last one in service takes a second press.
    assert site.value(f"instance_overrides/{name}") == ""
    page.get_by_role("button", name=f"Really drain the instance {name}, the last in service?").click()
    expect(row).to_contain_text("drained")
    assert json.loads(site.value(f"instance_overrides/{name}")) == {"drain": True}
    wait_until(lambda: site.weldr.admin_get("/readyz")[0] == 503, "it is not ready")
    expect(story(page).filter(has_text=f"instance {name}, by the operator: drained")).to_be_visible()
    page.get_by_role("button", name=f"Undrain the instance {name}").click()
    expect(row).to_contain_text("serving")
    assert site.value(f"instance_overrides/{name}") == ""
    wait_until(lambda: site.weldr.admin_get("/readyz")[0] == 200, "it is ready again")


def test_a_change_by_somebody_else_meanwhile_is_not_overwritten(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("backends/raced/b1", "127.0.0.1:9001")
    site.put("backends/raced/b2", "127.0.0.1:9002")
    opened(page, "raced")
    expect(service(page, "raced")).to_contain_text("2/2 up")
    # The page does not hear of it: its next change is made from what it knew.
    page.route(
        "**/api/v1/transaction",
        lambda route: (site.put("overrides/raced/b1", '{"weight": 9}'), route.continue_()),
    )
    page.get_by_role("button", name="Drain raced/b1").click()
    expect(page.locator("#toast")).to_contain_text("was changed by somebody else meanwhile")
    assert json.loads(site.value("overrides/raced/b1")) == {"weight": 9}
    expect(backend(page, "raced", "b1").locator(".weight .value")).to_have_text("9 (own 1)")


def test_everything_can_be_done_by_keyboard(site: Site, visitor: Visit) -> None:
    page = visitor.page
    # More than a few services: their backends are not shown before they are asked for.
    for name in ("keys-a", "keys-b", "keys-c", "keys-d"):
        site.put(f"backends/{name}/b1", "127.0.0.1:9001")
        site.put(f"backends/{name}/b2", "127.0.0.1:9002")
    toggles = {name: page.get_by_role("button", name=name, exact=True) for name in ("keys-a", "keys-b")}
    expect(service(page, "keys-b")).to_contain_text("2/2 up")
    expect(service(page, "keys-d")).to_contain_text("2/2 up")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the services")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Filter services, backends and routes")).to_be_focused()
    page.keyboard.type("keys-")
    expect(page.locator(".service")).to_have_count(4)
    page.keyboard.press("Escape")
    toggles["keys-a"].focus()
    page.keyboard.press("ArrowDown")
    expect(toggles["keys-b"]).to_be_focused()
    page.keyboard.press("Enter")
    expect(toggles["keys-b"]).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Drain keys-b/b1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(backend(page, "keys-b", "b1")).to_contain_text("by the operator")
    expect(page.get_by_role("button", name="Undrain keys-b/b1")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("New weight of keys-b/b1")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Weight of keys-b/b1", exact=True)).to_be_focused()
    # Whatever has the focus shows it.
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.fixture(scope="module")
def guarded(etcd_server: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tokens: Path = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"write {WRITER} ops\nread {READER} eyes\n")
    prefix = new_prefix()
    with Instance("--admin-token-file", str(tokens), etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        weldr.wait_ready()
        yield Site(weldr, Api(weldr.admin), etcd_server, prefix)


def test_with_tokens_the_page_asks_for_one_and_keeps_it_in_the_tab_alone(browser: Any, guarded: Site) -> None:
    guarded.put("backends/secret/b1", "127.0.0.1:9001")
    guarded.put("backends/secret/b2", "127.0.0.1:9002")
    with visit(browser) as visitor:
        page = visitor.page
        page.goto(guarded.url)
        field = page.get_by_label("Token", exact=True)
        expect(field).to_be_focused()
        assert "secret" not in page.content()
        field.fill("not-a-token-that-is-known")
        page.keyboard.press("Enter")
        expect(page.locator("#token-why")).to_have_text("this token is not known here")
        field.fill(READER)
        page.keyboard.press("Enter")
        opened(page, "secret")
        page.get_by_role("button", name="Drain secret/b1").click()
        expect(page.locator("#toast")).to_contain_text("this token may only read")
        assert guarded.value("overrides/secret/b1") == ""
        page.get_by_role("button", name="Token", exact=True).click()
        field.fill(WRITER)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Drain secret/b1").click()
        expect(backend(page, "secret", "b1")).to_contain_text("by the operator")
        held = page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]")
        assert WRITER in held[0]
        assert held[1:] == ["{}", ""]
        assert WRITER not in page.content()
        assert WRITER not in page.url
        page.reload()
        expect(page.locator(".service")).to_be_visible()
        page.get_by_role("button", name="Token", exact=True).click()
        page.get_by_role("button", name="Forget it").click()
        expect(field).to_be_focused()
        assert page.evaluate("sessionStorage.length") == 0
        assert visitor.complaints == []
    with visit(browser) as another:
        another.page.goto(guarded.url)
        expect(another.page.get_by_label("Token", exact=True)).to_be_focused()
