"""The proxies that are measured, each configured to do the same: forward everything to one origin.

One thread of work each, no access log, no compression, connections to the origin kept, the client's address
added to the headers; buffers are left as each has them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.etcd import EtcdServer
from weldr.version import __version__ as weldr_version

PROJECT = Path(__file__).resolve().parents[2]
FETCHED = PROJECT / ".peers"
# Where a wheel keeps its program: some have a script of the same name in `bin` that starts it.
_PLACES_IN_WHEELS = ("{name}/_bin", "bin")

# Idle connections and some more.
_MOST_CONNECTIONS = 16_000
_KEPT_TO_ORIGIN = 256


@dataclass(frozen=True)
class Place:
    """Where a proxy runs: its files, its port, its origin's port, and an etcd for those that read one."""

    directory: Path
    port: int
    origin_port: int
    etcd: EtcdServer

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.origin_port}"

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


class Proxy(ABC):
    """One proxy that may be on this machine."""

    name: str
    version_arguments: tuple[str, ...] = ("--version",)
    environment: dict[str, str] = {}  # noqa: RUF012

    def program(self) -> str | None:
        """The path of its program; none if it is missing."""
        for place in _PLACES_IN_WHEELS:
            fetched = shutil.which(self.name, path=FETCHED / self.name / place.format(name=self.name))
            if fetched is not None:
                return fetched
        return shutil.which(self.name) or _in_sbin(self.name)

    def version(self) -> str:
        """What it says its version is, on one line."""
        program = self.program()
        assert program is not None
        said = subprocess.run([program, *self.version_arguments], capture_output=True, text=True, check=True)
        return self.version_in(said.stdout + said.stderr)

    def version_in(self, said: str) -> str:
        return said.split()[2].removeprefix("nginx/")

    @abstractmethod
    def arguments(self, place: Place) -> list[str]:
        """What follows the program on its command line, with its files written and its keys put."""


def _in_sbin(name: str) -> str | None:
    """Debian has servers where the PATH of a user other than root does not lead."""
    return shutil.which(name, path="/usr/sbin:/usr/local/sbin")


class Weldr(Proxy):
    name = "weldr"

    def program(self) -> str:
        return sys.executable

    def version(self) -> str:
        return weldr_version

    def arguments(self, place: Place) -> list[str]:
        place.etcd.etcdctl("put", "/weldr/backends/default/b1", place.origin)
        return [
            *("-m", "weldr", "run", "--workers", "1", "--etcd", place.etcd.endpoint),
            *("--listen", f"127.0.0.1:{place.port}", "--admin", "127.0.0.1:0"),
        ]


class Nginx(Proxy):
    name = "nginx"
    version_arguments = ("-v",)

    def arguments(self, place: Place) -> list[str]:
        # `sendfile` and `tcp_nopush` as Debian sets them. Without, a body that nginx puts into a file, as it
        # does with 16 KiB, is sent apart from its head and waits for the origin's delayed acknowledgement.
        temporary = "\n".join(
            f"  {kind}_temp_path {place.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile {_MOST_CONNECTIONS + 1000};
pid {place.directory}/pid;
error_log stderr warn;
events {{ worker_connections {_MOST_CONNECTIONS}; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
{temporary}
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  upstream origin {{
    server {place.origin};
    keepalive {_KEPT_TO_ORIGIN};
    keepalive_requests 1000000000;
  }}
  map $http_upgrade $to_origin {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $to_origin;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
        return ["-e", "stderr", "-c", place.write("nginx.conf", text)]


class Haproxy(Proxy):
    name = "haproxy"
    version_arguments = ("-v",)

    def arguments(self, place: Place) -> list[str]:
        # Without `http-reuse always` each client's first request opens a connection to the origin.
        text = f"""
global
  nbthread 1
  maxconn {_MOST_CONNECTIONS}
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  timeout tunnel 600s
  option forwardfor
  http-reuse always
frontend clients
  bind 127.0.0.1:{place.port} backlog 4096
  default_backend origin
backend origin
  server origin {place.origin}
"""
        return ["-db", "-q", "-f", place.write("haproxy.cfg", text)]


class Envoy(Proxy):
    name = "envoy"

    def version_in(self, said: str) -> str:
        return said.partition("version: ")[2].split("/")[1]

    def arguments(self, place: Place) -> list[str]:
        text = json.dumps({"static_resources": _envoy_resources(place)})
        return [
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
            *("-c", place.write("envoy.json", text)),
        ]


def _envoy_resources(place: Place) -> dict[str, object]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    listener = {
        "address": _envoy_address(place.port),
        "tcp_backlog_size": 4096,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": _envoy_address(place.origin_port)}}
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"listeners": [listener], "clusters": [cluster]}


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Traefik(Proxy):
    name = "traefik"
    version_arguments = ("version",)
    environment = {"GOMAXPROCS": "1"}  # noqa: RUF012

    def version_in(self, said: str) -> str:
        return said.split()[1]

    def arguments(self, place: Place) -> list[str]:
        for key, value in (
            ("routers/all/rule", "PathPrefix(`/`)"),
            ("routers/all/service", "origin"),
            ("services/origin/loadbalancer/servers/0/url", f"http://{place.origin}"),
        ):
            place.etcd.etcdctl("put", f"traefik/http/{key}", value)
        return [
            f"--providers.etcd.endpoints=127.0.0.1:{place.etcd.client_port}",
            f"--entrypoints.web.address=127.0.0.1:{place.port}",
            "--entrypoints.web.transport.respondingtimeouts.idletimeout=600s",
            f"--serverstransport.maxidleconnsperhost={_KEPT_TO_ORIGIN}",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=ERROR",
        ]


class Caddy(Proxy):
    name = "caddy"
    version_arguments = ("version",)
    environment = {"GOMAXPROCS": "1"}  # noqa: RUF012

    def version_in(self, said: str) -> str:
        return said.split()[0].removeprefix("v")

    def arguments(self, place: Place) -> list[str]:
        text = f"""
{{
  admin off
  auto_https off
  persist_config off
  storage file_system {place.directory}/storage
  log default {{
    level ERROR
  }}
}}
http://:{place.port} {{
  bind 127.0.0.1
  reverse_proxy {place.origin} {{
    transport http {{
      keepalive_idle_conns_per_host {_KEPT_TO_ORIGIN}
    }}
  }}
}}
"""
        return ["run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", text)]


class Aiohttp(Proxy):
    name = "aiohttp"

    def program(self) -> str:
        return sys.executable

    def version(self) -> str:
        return aiohttp.__version__

    def arguments(self, place: Place) -> list[str]:
        return ["-m", "benchmarks.peers.aiohttp_proxy", str(place.port), f"http://{place.origin}"]


WELDR = Weldr()
PEERS: tuple[Proxy, ...] = (Nginx(), Haproxy(), Envoy(), Traefik(), Caddy(), Aiohttp())
