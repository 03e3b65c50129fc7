"""A catalog larger than anybody reads: the page draws a part of it and says what it leaves out."""

from __future__ import annotations

import itertools
import json
from typing import Any

from playwright.sync_api import expect

from tests.browser.dashboard import opened, service
from tests.support.browser import LIMIT_MS, Visit, visit
from tests.support.site import Site

expect.set_options(timeout=LIMIT_MS)

LARGE, SMALL = 4_000, 20
SERVICES = 300
ROWS = ".backend"


def catalog(site: Site, left_out: int) -> str:
    """What the API would tell of 10,000 backends, 4,000 of them of one service, and maybe more."""
    names = [f"backends/large/b{number}" for number in range(LARGE)]
    names += [f"backends/s{service}/b{number}" for service in range(SERVICES) for number in range(SMALL)]
    value = {"url": "http://127.0.0.1:9", "weight": 1}
    counter = itertools.count(1)
    items = [{"key": key, "value": value, "create_revision": next(counter), "mod_revision": 1} for key in names]
    items += [
        {"key": f"routes/r{number}", "value": {"service": "large"}, "create_revision": 1, "mod_revision": 1}
        for number in range(500)
    ]
    left = {"backends": left_out} if left_out else {}
    # The stream of events goes on from where this instance is.
    revision = site.api.get("/api/v1/keys").json["revision"]
    return json.dumps({"revision": revision, "items": items, "left_out": left})


def show(page: Any, site: Site, left_out: int) -> None:
    body = catalog(site, left_out)
    page.route("**/api/v1/keys*", lambda route: route.fulfill(content_type="application/json", body=body))
    page.goto(site.url)
    page.get_by_text("live", exact=True).wait_for()
    expect(service(page, "large")).to_be_visible()


def test_of_ten_thousand_backends_a_part_is_drawn_and_the_rest_is_found(browser: Any, site: Site) -> None:
    with visit(browser) as visitor:
        page = visitor.page
        show(page, site, 7)
        expect(page.locator(".sum.backends")).to_contain_text("10,000/10,000")
        expect(page.locator(".service")).to_have_count(100)
        expect(page.locator("#services-more")).to_have_text(
            "and 201 more: filter by name, or sort by another column"
        )
        expect(page.locator(".route")).to_have_count(200)
        expect(page.locator("#routes-more")).to_contain_text("and 300 more")
        row = opened(page, "large")
        expect(row.locator(ROWS)).to_have_count(100)
        expect(row.locator(".more")).to_have_text("and 3,900 more: filter by id, address or state")
        # As people count.
        expect(row.locator(f"{ROWS} .id").nth(10)).to_have_text("b10")
        assert page.locator("*").count() < 15_000
        # What is not drawn is found; and however many match, no more are drawn.
        page.get_by_label("Filter services, backends and routes").fill("b3999")
        expect(page.locator(ROWS)).to_have_count(1)
        page.get_by_label("Filter services, backends and routes").fill("b1")
        expect(page.locator("#services-more")).to_contain_text("and 201 more")
        expect(page.locator(f"{ROWS}:visible")).to_have_count(400)
        # What is beyond what the page holds is counted and said.
        expect(page.locator("#left-out")).to_contain_text("7 backends are left out, here and in all sums")
        site.put("backends/beyond/b1", "127.0.0.1:9001")
        expect(page.locator("#left-out")).to_contain_text("8 backends are left out")
        site.etcd.etcdctl("del", f"{site.prefix}backends/beyond/b1")
        expect(page.locator("#left-out")).to_contain_text("7 backends are left out")
        # There is room for other kinds, and a change of what is held is shown.
        site.put("services/of-its-own", "{}")
        page.get_by_label("Filter services, backends and routes").fill("of-its-own")
        expect(service(page, "of-its-own")).to_be_visible()
        assert visitor.complaints == []


def test_where_somebody_is_sent_to_is_drawn_however_far_down_it_is(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("backends/zz-last/b1", '{"url": "http://127.0.0.1:9", "weight": -1}')
    operations = [{"op": "put", "key": f"services/a{number}", "value": {}} for number in range(100)]
    assert site.api.post("/api/v1/transaction", {"operations": operations}).status == 200
    expect(page.locator("#services-more")).to_be_visible()
    expect(service(page, "zz-last")).to_have_count(0)
    page.get_by_role("button", name="backends/zz-last/b1").click()
    expect(service(page, "zz-last").get_by_role("button", name="zz-last", exact=True)).to_be_focused()
