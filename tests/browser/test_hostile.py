"""Whatever stands in keys is text on the page, and the page runs nothing but its own files."""

from __future__ import annotations

import http.client
import re
from typing import Any

from playwright.sync_api import expect

from tests.browser.dashboard import backend, opened, problem, service, story
from tests.support.browser import LIMIT_MS, Visit, visit
from tests.support.site import Site

expect.set_options(timeout=LIMIT_MS)

MARKUP = "<img src=x onerror=window.pwned=1>"
SCRIPT = "<script>window.pwned=1<\\script>"


def test_hostile_names_and_values_are_text(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put(f"backends/{MARKUP}/{MARKUP}", "127.0.0.1:9001")
    site.put(f"backends/{MARKUP}/b2", f'{{"url": "http://127.0.0.1:9002", "zone": "{MARKUP}"}}')
    site.put(f"routes/{MARKUP}", f'{{"path": "/{SCRIPT}", "service": "{MARKUP}"}}'.replace("\\", ""))
    site.put(f"services/{SCRIPT}", f'{{"{MARKUP}": 1}}')
    row = backend(page, MARKUP, MARKUP)
    expect(row).to_contain_text("127.0.0.1:9001")
    expect(backend(page, MARKUP, "b2")).to_contain_text(MARKUP)
    expect(page.locator(".route .id").get_by_text(MARKUP, exact=True)).to_be_visible()
    expect(page.locator(".problem .why").filter(has_text=MARKUP)).to_be_visible()
    expect(story(page).filter(has_text=f"backend {MARKUP}/{MARKUP} came")).to_be_visible()
    page.get_by_role("button", name=f"Drain {MARKUP}/{MARKUP}").click()
    expect(row).to_contain_text("by the operator")
    page.get_by_label("Where would this request go?").fill(f"http://x/{MARKUP}")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_be_visible()
    assert page.locator("img, iframe, object, embed").count() == 0
    assert page.locator("script").count() == 1
    assert page.evaluate("window.pwned") is None


def test_names_that_mean_something_to_scripts_are_names(site: Site, visitor: Visit) -> None:
    page = visitor.page
    for name in ("__proto__", "constructor", "toString"):
        site.put(f"backends/{name}/{name}", "127.0.0.1:9001")
        site.put(f"backends/{name}/hasOwnProperty", "127.0.0.1:9002")
        expect(service(page, name)).to_contain_text("2/2 up")
        expect(backend(page, name, name)).to_contain_text("127.0.0.1:9001")
        expect(backend(page, name, name).locator(".flight .value")).to_have_text("0")


def test_names_that_are_no_text_can_be_drained(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("backends/bytes/other", "127.0.0.1:9001")
    opened(page, "bytes")
    # What is no UTF-8 goes to the program as the bytes that these stand for.
    for raw, name in (("\udcff\udcfe", r"\xff\xfe"), (r"a\b", r"a\\b"), ("ö%2F", "ö%2F")):
        site.put(f"backends/bytes/{raw}", "127.0.0.1:9002")
        page.get_by_role("button", name=f"Drain bytes/{name}", exact=True).click()
        expect(backend(page, "bytes", name)).to_contain_text("by the operator")


def test_names_that_mean_something_in_paths_can_be_drained_and_harm_no_other_key(
    site: Site, visitor: Visit
) -> None:
    page = visitor.page
    kept = '{"timeouts": {"response_s": 59}}'
    site.put("settings", kept)
    for place in ("../settings", "dots/..", "dots/."):
        service_name, backend_id = place.split("/")
        # Nobody is asked whether to drain the last one.
        site.put(f"backends/{service_name}/other", "127.0.0.1:9002")
        expect(backend(page, service_name, "other")).to_contain_text("up")
        site.put(f"backends/{place}", "127.0.0.1:9001")
        page.get_by_role("button", name=f"Drain {place}", exact=True).click()
        expect(backend(page, service_name, backend_id)).to_contain_text("by the operator")
        page.get_by_role("button", name=f"Undrain {place}", exact=True).click()
        expect(page.get_by_role("button", name=f"Drain {place}", exact=True)).to_be_visible()
        assert site.value(f"overrides/{place}") == ""
    assert site.value("settings") == kept
    site.etcd.etcdctl("del", f"{site.prefix}settings")


def test_a_value_that_no_schema_knows_does_not_stop_the_page(site: Site, visitor: Visit) -> None:
    page = visitor.page
    odd = (
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"url": 7, "weight": "x", "zone": {}}',
        "\x01\x02",
        '{"endpoints": {}}',
        '{"endpoints": [{"toString": 1}]}',
        '{"url": "127.0.0.1:1", "weight": {"toString": 1}, "until": {"toString": 1}, "path": {"toString": 1}}',
        '{"service": {"toString": 1}, "address": {"toString": 1}, "reason": {"toString": 1}, "state": "down"}',
        '{"started": {"toString": 1}, "applied": [{"toString": 1}], "since": {"toString": 1}, "state": "held"}',
    )
    for index, value in enumerate(odd):
        for kind in ("backends/odd", "overrides/odd"):
            site.put(f"{kind}/b{index}", value)
        for kind in ("routes", "services", "vips"):
            site.put(f"{kind}/odd{index}", value)
        # Only instances write these, but who may write etcd may write them.
        site.put(f"holders/odd{index}", value)
        site.put(f"health/odd/odd/b{index}", value)
        site.put(f"instances/odd{index}", value)
    site.put("backends/after-odd/b1", "127.0.0.1:9001")
    expect(service(page, "after-odd")).to_contain_text("1/1 up")
    for kind in ("vips", "holders", "instances", "health", "routes", "services", "overrides", "backends"):
        site.etcd.etcdctl("del", "--prefix", f"{site.prefix}{kind}/odd")


def test_a_script_that_got_in_would_not_run(site: Site, browser: Any) -> None:
    with visit(browser) as visitor:
        page = visitor.page
        page.goto(site.url)
        page.get_by_text("live", exact=True).wait_for()
        found = page.evaluate(
            """() => {
                const caught = [];
                const attempt = (name, work) => { try { work(); } catch (error) { caught.push(name); } };
                attempt("innerHTML", () => { document.body.innerHTML = "<p>x</p>"; });
                attempt("script", () => {
                    const node = document.createElement("script");
                    node.textContent = "window.pwned = 1";
                    document.body.append(node);
                });
                const style = document.createElement("p");
                style.setAttribute("style", "color: rgb(1, 2, 3)");
                document.body.append(style);
                return [caught, window.pwned ?? null, getComputedStyle(style).color];
            }"""
        )
        assert found[0] == ["innerHTML", "script"]
        assert found[1] is None
        assert found[2] != "rgb(1, 2, 3)"
        # And the policy tells of each: so a test that sees no complaint has seen that there was none.
        assert any("Content Security Policy" in text or "Trusted" in text for text in visitor.complaints)


def _get(site: Site, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(site.weldr.admin, timeout=30)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_every_file_of_the_page_has_the_strict_headers_and_names_nothing_elsewhere(site: Site) -> None:
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        response = _get(site, path)
        body = response.read().decode()
        assert response.status == 200, path
        named = re.findall(r'(?:src|href)="(/[^"]+)"', body)
        named += [f"/dashboard/{name}" for name in re.findall(r'from "\./([\w.]+)"', body)]
        waiting += [name for name in named if name not in seen]
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert set(re.findall(r"https?://[^\s\"'`<)]+", body)) <= {
            "http://www.w3.org/2000/svg",
            "http://shop.example/cart",
            "http://order.invalid/",
        }, path
        again = _get(site, path, **{"If-None-Match": response.headers["ETag"]})
        assert (again.status, again.read()) == (304, b"")
    assert "/dashboard/services.js" in seen
    # The API's answers are no documents: their policy lets nothing load at all.
    assert "'self'" not in _get(site, "/api/v1/keys").headers["Content-Security-Policy"]


def test_problems_of_the_page_itself_are_few_words(site: Site, visitor: Visit) -> None:
    page = visitor.page
    site.put("routes/lonely", '{"host": "lonely.example", "service": "nobody-there"}')
    expect(problem(page, "routes/lonely")).to_be_visible()
    expect(service(page, "nobody-there")).to_contain_text("no backend")
