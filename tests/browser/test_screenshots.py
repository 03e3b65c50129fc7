"""What the dashboard looks like, written for people to look at: `screenshots/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import opened
from tests.support.browser import LIMIT_MS, visit
from tests.support.showcase import Showcase

expect.set_options(timeout=LIMIT_MS)

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
SIZES = {1440: 900, 390: 844}


@pytest.fixture(scope="module")
def showcase(started_browser: Any) -> Iterator[Showcase]:
    with Showcase(instances=2, services=12, backends=60) as made:
        made.trouble()
        yield made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_the_page_fits_and_is_written_as_a_picture(
    showcase: Showcase, browser: Any, width: int, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with visit(browser, width=width, height=SIZES[width], scheme=scheme) as visitor:
        page = visitor.page
        page.goto(f"http://{showcase.instances[0].admin}/")
        opened(page, "accounts")
        expect(page.locator(".instance").filter(has_text="req/s")).to_have_count(2)
        expect(page.locator(".vip").filter(has_text="held")).to_have_count(2)
        expect(page.locator(".backend .meter:visible").first).to_be_visible()
        expect(page.locator(".backend").filter(has_text="refused the connection")).to_be_visible()
        # Keys that the page has no use for are not left out.
        expect(page.locator("#left-out")).to_be_hidden()
        # Nothing is wider than the window, and every control is big enough to be hit.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
        for box in page.locator(".backend button").all():
            assert box.bounding_box()["height"] >= (24 if width < 900 else 20)
        assert _least_contrast(page) >= 4.4
        page.get_by_label("Where would this request go?").fill("http://shop.example/accounts")
        page.keyboard.press("Enter")
        expect(page.locator("#verdict")).to_be_visible()
        page.evaluate("scrollTo(0, 0)")
        FOLDER.mkdir(exist_ok=True)
        for suffix, whole in (("", False), ("-whole", True)):
            path = FOLDER / f"dashboard-{width}-{scheme}{suffix}.png"
            page.screenshot(path=path, full_page=whole)
            with capsys.disabled():
                print(f"\n{path}", end="")
        assert visitor.complaints == []


def _least_contrast(page: Any) -> float:
    """The least contrast of any text with what is behind it, by the formula of WCAG 2."""
    found: float = page.evaluate(
        """() => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const rgba = (text) => {
                canvas.clearRect(0, 0, 1, 1);
                canvas.fillStyle = text;
                canvas.fillRect(0, 0, 1, 1);
                const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
                return [r, g, b, a / 255];
            };
            const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
            const light = (rgb) => {
                const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                const [r, g, b] = rgb.map((v) => linear(v / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = (node) => {
                const stack = [];
                for (let at = node; at; at = at.parentElement) {
                    stack.push(rgba(getComputedStyle(at).backgroundColor));
                }
                return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
            };
            let least = 21;
            for (const node of document.querySelectorAll("body *")) {
                const texts = [...node.childNodes].filter((child) => child.nodeType === 3);
                if (!texts.some((child) => child.textContent.trim()) || !node.checkVisibility()) continue;
                const back = behind(node);
                const front = over(rgba(getComputedStyle(node).color), back);
                const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
                least = Math.min(least, (a + 0.05) / (b + 0.05));
            }
            return least;
        }"""
    )
    return found
