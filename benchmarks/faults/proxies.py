"""The proxies, each told alike what a failing backend is.

Checks: `GET /health` every 10 s with 2 s of time, down after 3 failures, up after 2 passes, as weldr's defaults
are. Failures of requests: 5 in a row, out for 10 s, never more than half. Another backend is tried if no
connection can be made, and, as weldr does by default, once if a connection is lost without a response or the
answer is 502, 503 or 504; where a proxy has one number for all of these it is the larger. What a proxy does not
have stays out: Traefik's `retry` knows no statuses.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.process import ProxyProcess
from benchmarks.peers.proxies import PEERS, WELDR, Proxy
from tests.support.etcd import EtcdServer


@dataclass(frozen=True)
class Setting:
    """Where a proxy runs: its files, its port, its backends, and an etcd for those that read one."""

    directory: Path
    port: int
    backends: list[int]
    etcd: EtcdServer

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


def _weldr(setting: Setting) -> list[str]:
    # But for the path these are the defaults; ejection has no key at all.
    setting.etcd.etcdctl("put", "/weldr/services/default", json.dumps({"health": {"path": "/health"}}))
    for number, port in enumerate(setting.backends):
        setting.etcd.etcdctl("put", f"/weldr/backends/default/b{number}", f"127.0.0.1:{port}")
    return [
        *("-m", "weldr", "run", "--workers", "1", "--etcd", setting.etcd.endpoint),
        *("--listen", f"127.0.0.1:{setting.port}", "--admin", "127.0.0.1:0"),
    ]


def _haproxy(setting: Setting) -> list[str]:
    servers = "\n".join(f"  server b{number} 127.0.0.1:{port}" for number, port in enumerate(setting.backends))
    text = f"""
global
  nbthread 1
  no strict-limits
defaults
  mode http
  timeout connect 2s
  timeout client 600s
  timeout server 60s
  timeout check 2s
  retries 3
  retry-on conn-failure empty-response 502 503 504
  option redispatch 1
  http-reuse always
frontend clients
  bind 127.0.0.1:{setting.port}
  default_backend origin
backend origin
  balance roundrobin
  option httpchk GET /health
  default-server check inter 10s fall 3 rise 2 observe layer7 error-limit 5 on-error mark-down
{servers}
"""
    return ["-db", "-q", "-f", setting.write("haproxy.cfg", text)]


def _envoy(setting: Setting) -> list[str]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "cluster": "origin",
        "timeout": "60s",
        "retry_policy": {
            "retry_on": "connect-failure,reset,gateway-error",
            "num_retries": 3,
            "retry_host_predicate": [
                {
                    "name": "previous",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                        ".PreviousHostsPredicate"
                    },
                }
            ],
        },
    }
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ]
        },
    }
    endpoints = [{"endpoint": {"address": _envoy_address(port)}} for port in setting.backends]
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [
            {
                "interval": "10s",
                "no_traffic_interval": "10s",
                "timeout": "2s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 2,
                "http_health_check": {"path": "/health"},
            }
        ],
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "1s",
            "base_ejection_time": "10s",
            "max_ejection_percent": 50,
        },
    }
    listener = {
        "address": _envoy_address(setting.port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    text = json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    return [
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
        *("-c", setting.write("envoy.json", text)),
    ]


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _traefik(setting: Setting) -> list[str]:
    # It has neither thresholds for checks nor a growing or limited ejection.
    balancer = {
        "servers": [{"url": f"http://127.0.0.1:{port}"} for port in setting.backends],
        "healthCheck": {"path": "/health", "interval": "10s", "timeout": "2s"},
        "passiveHealthCheck": {"failureWindow": "10s", "maxFailedAttempts": 5},
    }
    http = {
        "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "origin", "middlewares": ["again"]}},
        "middlewares": {"again": {"retry": {"attempts": 4}}},
        "services": {"origin": {"loadBalancer": balancer}},
    }
    return [
        f"--providers.file.filename={setting.write('dynamic.yaml', json.dumps({'http': http}))}",
        f"--entrypoints.web.address=127.0.0.1:{setting.port}",
        "--serverstransport.forwardingtimeouts.dialtimeout=2s",
        "--serverstransport.forwardingtimeouts.responseheadertimeout=60s",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=ERROR",
    ]


_ARGUMENTS: dict[str, Callable[[Setting], list[str]]] = {
    "weldr": _weldr,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "traefik": _traefik,
}

PROXIES: tuple[Proxy, ...] = tuple(proxy for proxy in (WELDR, *PEERS) if proxy.name in _ARGUMENTS)


class Running(ProxyProcess):
    """One proxy before ten backends."""

    def __init__(self, proxy: Proxy, backends: list[int], etcd: EtcdServer) -> None:
        program = proxy.program()
        assert program is not None
        arguments = _ARGUMENTS[proxy.name]
        super().__init__(
            proxy,
            lambda directory, port: [program, *arguments(Setting(directory, port, backends, etcd))],
            _ask,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ask(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
        pass
