"""The description of the API, and the API held to it by schemathesis, which sends right and wrong requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from tests.support.site import Site
from weldr.model.collections import COLLECTIONS

LIMIT_S = 600.0
# What a schema cannot say (an address has a port, a host has no path) is refused with 422, what is not
# there with 404, a revision that is compacted with 410, and a condition that does not hold with 412.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "404", "410", "412", "422"]
negative_data_rejection.expected-statuses = ["400", "404", "405", "412", "413", "422"]
"""


def schemathesis(directory: Path, address: str, *arguments: str) -> str:
    """Run it; what it found. An event stream has no end, for which it would wait."""
    configuration = directory / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"]
    command += [f"http://{address}/openapi.json", "--exclude-path", "/api/v1/events", "--no-color"]
    done = subprocess.run(
        [*command, *arguments], cwd=directory, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_the_api_does_what_its_description_says(site: Site, tmp_path: Path) -> None:
    found = schemathesis(tmp_path, site.api.address, "--max-examples", "5", "--seed", "1")
    assert "Tested" in found
    assert not [record for record in site.weldr.records if record["level"] == "ERROR"]


def test_no_endpoint_forgets_the_token(etcd_server: EtcdServer, tmp_path: Path) -> None:
    token = "w" * 32
    file = tmp_path / "tokens"
    file.write_text(f"write {token}\n")
    with Instance("--admin-token-file", str(file), etcd=etcd_server.endpoint, prefix="/described/") as weldr:
        weldr.wait_ready()
        document = Api(weldr.admin, {"Authorization": f"Bearer {token}"}).get("/openapi.json").json
        assert document["security"]
        for path, methods in document["paths"].items():
            for method in methods:
                answer = Api(weldr.admin).call(method.upper(), path.replace("{", "").replace("}", ""))
                assert answer.status == 401, (method, path)


def test_every_collection_is_described_with_the_type_of_its_values(api: Api) -> None:
    document = api.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    for name, collection in COLLECTIONS.items():
        path = "/".join(["/api/v1", name, *(f"{{{part}}}" for part in collection.parts)])
        methods = set(document["paths"][path])
        assert methods == ({"get", "put", "patch", "delete"} if collection.writable else {"get"})
        if collection.writable:
            assert collection.value_type is not None
            assert collection.value_type.__name__ in document["components"]["schemas"]
