"""What is said about etcd, and how mistakes in it are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from weldr.etcd.config import Endpoint, EtcdConfig, EtcdConfigError, parse_endpoints


def test_urls_are_read_with_and_without_scheme_and_port() -> None:
    assert parse_endpoints("http://a:2379, b ,[::1]:23,a") == (
        Endpoint("http", "a", 2379),
        Endpoint("http", "b", 2379),
        Endpoint("http", "::1", 23),
    )
    assert parse_endpoints("a", tls=True) == (Endpoint("https", "a", 2379),)
    assert parse_endpoints("https://a/") == (Endpoint("https", "a", 2379),)
    assert str(Endpoint("http", "::1", 23)) == "http://[::1]:23"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no etcd URL was given"),
        (" , ", "no etcd URL was given"),
        ("ftp://a:2379", "'ftp://a:2379' has the unknown scheme 'ftp'"),
        ("http://a:2379/v3", "has a path"),
        ("http://a:2379?x=1", "has a path"),
        ("http://a:0", "no usable port"),
        ("http://a:", "no usable port"),
        ("http://a:99999", "cannot be read"),
        ("http://a:b", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://:2379", "names no host"),
        ("http://a b:2379", "names no host"),
        ("http://\udce4.example:2379", "not UTF-8"),
        ("http://a,https://b", "mixed"),
    ],
)
def test_a_url_that_cannot_be_right_is_named_in_one_line(text: str, words: str) -> None:
    with pytest.raises(EtcdConfigError, match=words.replace("'", ".")) as failure:
        parse_endpoints(text)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "text",
    ["http://me:hunter2@a:2379", "http://a:2379,me:hunter2@b", "ftp://me:hunter2@a:x/y", "me:hunter2@a:x"],
)
def test_a_password_in_a_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(EtcdConfigError) as failure:
        parse_endpoints(text)
    assert "hunter2" not in str(failure.value)


def test_the_password_is_not_shown_in_the_configuration_either() -> None:
    config = EtcdConfig.from_text("http://a", user="me", password="hunter2")
    assert config.password == "hunter2"
    assert "hunter2" not in repr(config)


def test_a_user_is_given_as_etcdctl_takes_it() -> None:
    config = EtcdConfig.from_text("http://a", user="me:with:colons")
    assert (config.user, config.password) == ("me", "with:colons")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "me"}, "no password was given"),
        ({"user": "me:"}, "no password was given"),
        ({"password": "hunter2"}, "without a user"),
    ],
)
def test_half_a_login_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(EtcdConfigError, match=words) as failure:
        EtcdConfig.from_text("http://a", **options)  # type: ignore[arg-type]
    assert "hunter2" not in str(failure.value)


def test_tls_files_are_checked_before_anything_is_started(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("not a certificate")
    cases = [
        ({"cacert": str(tmp_path / "missing")}, "cannot be read: No such file"),
        ({"cacert": str(tmp_path)}, "cannot be read: Is a directory"),
        ({"cacert": str(text)}, "holds no PEM certificate"),
        ({"cert": str(text)}, "without its key"),
        ({"key": str(text)}, "without its certificate"),
        ({"cert": str(text), "key": str(text)}, "no PEM certificate and its unencrypted key"),
    ]
    for options, words in cases:
        with pytest.raises(EtcdConfigError, match=words):
            EtcdConfig.from_text("https://a", **options)  # type: ignore[arg-type]


def test_tls_files_for_plain_http_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(EtcdConfigError, match="write https"):
        EtcdConfig.from_text("http://a", cacert=str(tmp_path / "ca"))


def test_the_environment_is_read_as_etcdctl_reads_it_and_weldr_goes_first() -> None:
    assert EtcdConfig.from_environment(environment={}).endpoints == (Endpoint("http", "127.0.0.1", 2379),)
    environment = {
        "ETCDCTL_ENDPOINTS": "http://c:1",
        "ETCDCTL_USER": "me:secret",
        "WELDR_ETCD": "http://w:1,http://x:2",
    }
    config = EtcdConfig.from_environment(environment=environment)
    assert [endpoint.host for endpoint in config.endpoints] == ["w", "x"]
    assert (config.user, config.password) == ("me", "secret")
    assert EtcdConfig.from_environment("http://given", environment=environment).endpoints[0].host == "given"


@pytest.mark.parametrize(
    ("user", "password"), [("\udcfc", "secret"), ("weldr", "gr\udcfcn"), ("weldr:\udcfc", None)]
)
def test_a_user_and_password_that_etcd_cannot_be_sent_are_refused_at_once(
    user: str, password: str | None
) -> None:
    """As they come out of a file in another encoding."""
    with pytest.raises(EtcdConfigError, match="is not UTF-8"):
        EtcdConfig.from_text("http://a:2379", user=user, password=password)
