"""The signed cookie."""

from __future__ import annotations

import re

import pytest

from tests.unit.proxy.balancing.test_request_key import head
from weldr.model.balancing import Sticky
from weldr.proxy.balancing.sticky import StickyCookie

KEY = b"k" * 32


def cookies(service: str = "shop", sticky: Sticky | None = None, key: bytes = KEY) -> StickyCookie[str]:
    found: StickyCookie[str] = StickyCookie(service, sticky or Sticky(), key)
    for name in ("a", "b"):
        found.put(name, name)
    return found


def sent(found: StickyCookie[str], member: str) -> str:
    """What a browser sends after it was given this member's cookie."""
    line = found.line(member).decode()
    assert line.startswith("\r\nSet-Cookie: ")
    return "Cookie: other=1; " + line.removeprefix("\r\nSet-Cookie: ").partition(";")[0]


def test_a_cookie_brings_back_to_its_member_on_every_instance() -> None:
    assert cookies().member(head(sent(cookies(), "a"))) == "a"
    assert cookies().member(head(sent(cookies(), "b"))) == "b"
    assert cookies().member(head()) is None


def test_what_was_not_signed_with_this_key_for_this_service_is_nobodys() -> None:
    assert cookies(key=b"x" * 32).member(head(sent(cookies(), "a"))) is None
    named = Sticky(cookie="c")
    assert cookies("shop", named).member(head(sent(cookies("cart", named), "a"))) is None
    for forged in ("a", "", "x" * 24, "a.x"):
        assert cookies("shop", named).member(head(f"Cookie: c={forged}")) is None


def test_it_tells_nothing_of_its_member() -> None:
    value = sent(cookies(), "a").rpartition("=")[2]
    assert re.fullmatch(r"[A-Za-z0-9_-]{24}", value)
    assert value != sent(cookies(), "b").rpartition("=")[2]


def test_one_that_is_gone_has_no_cookie_and_one_of_the_same_name_takes_it_over() -> None:
    found = cookies()
    given = head(sent(found, "a"))
    found.remove("a")
    assert found.member(given) is None
    found.put("a anew", "a")
    assert found.member(given) == "a anew"
    assert found.member(head(sent(found, "b"))) == "b"
    found.put("a once more", "a")
    found.remove("a anew")
    assert found.member(given) == "a once more"


@pytest.mark.parametrize(
    ("sticky", "attributes"),
    [
        (Sticky(cookie="c"), "; Path=/; HttpOnly; SameSite=Lax"),
        (
            Sticky(cookie="c", max_age_s=60, same_site="strict"),
            "; Path=/; Max-Age=60; HttpOnly; SameSite=Strict",
        ),
        (Sticky(cookie="c", secure=True, same_site="none"), "; Path=/; HttpOnly; Secure; SameSite=None"),
    ],
)
def test_its_attributes(sticky: Sticky, attributes: str) -> None:
    line = cookies(sticky=sticky).line("a").decode()
    assert re.fullmatch(r"\r\nSet-Cookie: c=[^;]{24}" + re.escape(attributes), line)


def test_two_services_do_not_share_a_cookie() -> None:
    assert cookies("shop").line("a").partition(b"=")[0] != cookies("cart").line("a").partition(b"=")[0]
