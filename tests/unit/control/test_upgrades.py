"""Who may ask for which upgrade, and what one manager tells the other of virtual IPs."""

from __future__ import annotations

import os
import sys

import msgspec
import pytest

from weldr.control.control_socket import ControlError, Request
from weldr.control.upgrade.launch import own_program
from weldr.control.upgrade.succession import wish_of
from weldr.control.vip.promises import PromiseBook
from weldr.model.frames import FrameReader, encode_frame
from weldr.model.takeover import Candidacy as Place
from weldr.model.takeover import FromOld, HandedVip, HeldAddress, Takeover, VipsState
from weldr.model.vips import Vip


@pytest.mark.parametrize(
    "request_", [Request(command="upgrade", arguments=[]), Request(command="upgrade", environment={})]
)
def test_options_and_variables_are_for_those_who_may_do_all_that_the_manager_can(request_: Request) -> None:
    wish_of(request_, trusted=True)
    with pytest.raises(ControlError, match="only root may give arguments or an environment"):
        wish_of(request_, trusted=False)


def test_a_program_is_for_those_too_and_others_get_the_managers_own() -> None:
    request = Request(command="upgrade", program=["/tmp/mine"])
    assert wish_of(request, trusted=True).program == ["/tmp/mine"]
    assert wish_of(request, trusted=False).program == own_program()


def test_only_variables_of_weldr_and_etcdctl_are_taken_and_the_old_ones_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WELDR_ZONE", "old")
    monkeypatch.setenv("OTHER", "stays")
    given = {"WELDR_WORKERS": "3", "ETCDCTL_USER": "u", "LD_PRELOAD": "evil.so"}
    environment = wish_of(Request(command="upgrade", environment=given), trusted=True).environment
    assert environment["WELDR_WORKERS"] == "3"
    assert environment["ETCDCTL_USER"] == "u"
    assert environment["OTHER"] == "stays"
    assert "WELDR_ZONE" not in environment
    assert environment.get("LD_PRELOAD") == os.environ.get("LD_PRELOAD")


def test_a_script_is_started_as_such_since_it_names_its_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    script = os.path.join(tmp_path, "weldr")
    with open(script, "w") as file:
        file.write("#!/opt/weldr/current/bin/python\n")
    os.chmod(script, 0o755)
    monkeypatch.setattr(sys, "argv", [script, "run", "--workers", "2"])
    monkeypatch.setattr(sys, "orig_argv", ["/opt/weldr/1/bin/python", script, "run", "--workers", "2"])
    assert own_program() == [script]
    monkeypatch.setattr(sys, "argv", ["/x/weldr/__main__.py", "run"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-P", "-m", "weldr", "run"])
    assert own_program() == [sys.executable, "-P", "-m", "weldr"]


def test_what_was_promised_and_refused_binds_whoever_goes_on() -> None:
    old, new = PromiseBook(100.0), PromiseBook(500.0)
    assert old.promise("web", 7, 3.0, 200.0, busy=False) is None
    old.promise("other", 9, 0.1, 190.0, busy=False)
    old.learn("past", 50)
    old.start_over()
    old.learn("web", 7)
    assert old.refuse("other", 9, 3.0, 200.0) == 0.0
    new.adopt(old.words(), old.began_s)
    assert new.until_s("web") == old.until_s("web") > 203.0
    assert new.promise("web", 6, 3.0, 201.0, busy=False) == "it knows a newer holder"
    assert new.promise("other", 9, 3.0, 201.0, busy=False) == "it has refused this holder before"
    assert new.until_s("web", released=6) == new.until_s("web")
    assert new.promise("past", 50, 3.0, 201.0, busy=False) is None
    assert new.promise("past", 40, 3.0, 201.0, busy=False) is None
    assert new.began_s == old.began_s


def test_a_takeover_is_read_as_it_was_sent_and_what_a_newer_version_adds_is_left_out() -> None:
    place = Place(vip="web", value=Vip(address="10.0.0.1"), lease=5, ttl_s=3, token=7)
    held = HeldAddress(token=7, window_end_s=2.0, expires_s=1.0, confirmed_s=0.5)
    takeover = Takeover(vips=VipsState(vips=[HandedVip(candidacy=place, held=held)], words=[], boot_s=1.0))
    frame = encode_frame(takeover)
    assert FrameReader[FromOld](FromOld).feed(frame) == [takeover]
    newer = msgspec.msgpack.decode(frame[4:]) | {"added": {"later": 1}}
    newer["vips"]["added"] = True
    body = msgspec.msgpack.encode(newer)
    assert FrameReader[FromOld](FromOld).feed(len(body).to_bytes(4, "big") + body) == [takeover]
