"""Dead, frozen, leaderless and cut-off members: what is noticed, how soon, and what is sent again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from tests.integration.etcd.recording import Recording, connect, member_in_use, until
from tests.support.etcd import EtcdBinary, EtcdCluster, EtcdServer
from tests.support.ports import free_port
from tests.support.relay import TcpRelay
from weldr.etcd.errors import EtcdTimeoutError, EtcdUnavailableError

# What the design asks for: a frozen member or a dead connection is noticed within 5 s.
NOTICED_S = 5.0
# And the time to go elsewhere, on a machine that has other things to do.
SLACK_S = 3.0


async def test_any_member_will_do_when_the_others_are_dead_at_the_start(own_etcd: EtcdServer) -> None:
    dead = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    # Wherever the client begins in the list.
    for endpoints in (
        [own_etcd.endpoint, *dead],
        [*dead, own_etcd.endpoint],
        [dead[0], own_etcd.endpoint, dead[1]],
    ):
        for _ in range(3):
            async with connect(",".join(endpoints)) as client:
                assert (await client.put(b"a", b"1", timeout_s=30)).revision
                assert client.connection.endpoint == own_etcd.endpoint


@pytest.mark.real_time
async def test_a_member_that_hangs_at_the_start_is_passed_over(own_cluster: EtcdCluster) -> None:
    frozen = own_cluster.followers()[0]
    frozen.freeze()
    for _ in range(4):
        async with connect(own_cluster.endpoints) as client:
            assert await client.get(b"a", timeout_s=8) is None
    frozen.thaw()


@pytest.mark.parametrize("which", ["leader", "follower"])
@pytest.mark.real_time
async def test_a_frozen_member_is_noticed_by_a_quiet_watch_within_five_seconds(
    own_cluster: EtcdCluster, which: str
) -> None:
    chosen = own_cluster.leader() if which == "leader" else own_cluster.followers()[0]
    others = [member for member in own_cluster.members if member is not chosen]
    async with connect(own_cluster.endpoints) as client:
        while client.connection.endpoint != chosen.endpoint:
            await _go_to_next_member(client)
        async with Recording(client, b"/quiet/") as recording:
            chosen.freeze()
            assert client.connection.endpoint == chosen.endpoint
            assert recording.follower.reconnections == 0
            began_s = time.monotonic()
            # Not `connected`: it may be false for no longer than a millisecond.
            await until(lambda: recording.follower.reconnections == 1, "the frozen member is noticed")
            noticed_s = time.monotonic() - began_s
            await until(lambda: recording.follower.connected, "another member is followed")
            moved_s = time.monotonic() - began_s
            print(f"frozen {which}: noticed after {noticed_s:.2f} s, moved on after {moved_s:.2f} s")
            assert noticed_s < NOTICED_S
            assert moved_s < NOTICED_S + SLACK_S
            await asyncio.to_thread(others[0].etcdctl, "put", "/quiet/a", "1")
            await recording.holds(b"/quiet/a", b"1")
            assert len(recording.snapshots) == 1, "nothing had to be read anew"
        chosen.thaw()


async def test_a_killed_member_costs_no_event(own_cluster: EtcdCluster) -> None:
    async with connect(own_cluster.endpoints) as client:
        async with Recording(client, b"/k/") as recording:
            for number in range(6):
                member = member_in_use(own_cluster, client)
                if number % 2:
                    await asyncio.to_thread(member.kill)
                # A write through a member that does not know of its leader's death yet would be lost.
                leader = await asyncio.to_thread(own_cluster.leader)
                await asyncio.to_thread(leader.etcdctl, "put", "/k/a", str(number))
                took_s = await recording.holds(b"/k/a", str(number).encode())
                print(f"event {number} after {took_s:.2f} s")
                if number % 2:
                    await asyncio.to_thread(member.start)
        assert recording.events == [(b"/k/a", str(number).encode()) for number in range(6)]
        assert len(recording.snapshots) == 1


async def test_a_member_without_a_leader_is_told_from_a_quiet_one(own_cluster: EtcdCluster) -> None:
    async with connect(own_cluster.endpoints) as client, Recording(client, b"/l/") as recording:
        await until(lambda: recording.follower.connected, "it follows")
        alone = member_in_use(own_cluster, client)
        others = [member for member in own_cluster.members if member is not alone]
        for member in others:
            await asyncio.to_thread(member.kill)
        took_s = await until(lambda: not recording.follower.connected, "the watch without a leader is given up")
        print(f"leaderless: noticed after {took_s:.2f} s")
        with pytest.raises(EtcdUnavailableError):
            await client.get(b"/l/a", timeout_s=2)
        for member in others:
            member.launch()
        for member in others:
            await asyncio.to_thread(member.wait_ready)
        await client.put(b"/l/a", b"1", timeout_s=30)
        await recording.holds(b"/l/a", b"1")
        assert len(recording.snapshots) == 1


@pytest.mark.real_time
async def test_a_connection_that_dies_without_a_word_is_replaced(each_binary: EtcdBinary) -> None:
    with EtcdServer(each_binary) as server:
        async with (
            TcpRelay(server.endpoint) as relay,
            connect(relay.endpoint) as client,
            Recording(client, b"/s/") as recording,
        ):
            await client.put(b"/s/a", b"1")
            await recording.holds(b"/s/a", b"1")
            connections = relay.connections
            relay.go_silent()
            relay.go_on()  # for new connections; the old one stays silent
            server.etcdctl("put", "/s/a", "2")
            took_s = await recording.holds(b"/s/a", b"2")
            print(f"silent connection: event after {took_s:.2f} s")
            assert took_s < NOTICED_S + SLACK_S
            assert relay.connections > connections
            assert len(recording.snapshots) == 1


async def test_a_write_that_may_have_been_applied_is_not_sent_again(own_cluster: EtcdCluster) -> None:
    async with connect(own_cluster.endpoints) as client:
        await client.put(b"w", b"0")
        frozen = member_in_use(own_cluster, client)
        frozen.freeze()
        with pytest.raises(EtcdTimeoutError) as failure:
            await client.put(b"w", b"1", timeout_s=3)
        assert failure.value.maybe_applied
        found = await client.get(b"w", timeout_s=30)
        assert found is not None
        assert found.value == b"0", "no other member was asked to write it"
        frozen.thaw()


@pytest.mark.real_time
async def test_a_read_is_sent_again_to_another_member(own_cluster: EtcdCluster) -> None:
    async with connect(own_cluster.endpoints) as client:
        await client.put(b"r", b"1")
        frozen = member_in_use(own_cluster, client)
        frozen.freeze()
        # If it was the leader, the rest has to elect another first.
        found = await client.get(b"r", timeout_s=10)
        assert found is not None
        assert found.value == b"1"
        frozen.thaw()


async def test_a_write_that_never_left_is_sent_when_etcd_is_back(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        await client.put(b"a", b"1")
        own_etcd.stop()
        writing = asyncio.create_task(client.put(b"a", b"2", timeout_s=30))
        await asyncio.to_thread(own_etcd.start)
        await writing
        found = await client.get(b"a")
        assert found is not None
        assert found.value == b"2"


@pytest.mark.real_time
async def test_an_impatient_request_does_not_cost_the_member_its_connection(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Recording(client, b"/i/") as recording:
        await until(lambda: recording.follower.connected, "it follows")
        own_etcd.freeze()
        with pytest.raises(EtcdTimeoutError):
            await client.put(b"/i/a", b"1", timeout_s=0.2)
        own_etcd.thaw()
        await client.put(b"/i/b", b"1")
        await recording.holds(b"/i/b", b"1")
        assert recording.follower.reconnections == 0


async def test_an_outage_is_logged_once_and_so_is_its_end(
    own_etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "weldr")
    async with connect(own_etcd.endpoint) as client, Recording(client, b"/o/") as recording:
        await client.put(b"/o/a", b"1")
        await asyncio.to_thread(own_etcd.stop)
        end_s = time.monotonic() + 5
        requests = 0
        while time.monotonic() < end_s or requests <= 10:
            with pytest.raises(EtcdUnavailableError):
                await client.get(b"/o/a", timeout_s=0.3)
            requests += 1
        await asyncio.to_thread(own_etcd.start)
        await asyncio.to_thread(own_etcd.etcdctl, "put", "/o/a", "2")
        took_s = await recording.holds(b"/o/a", b"2")
        print(f"etcd back after 5 s: event after {took_s:.2f} s")
    lines = [record.message for record in caplog.records if record.name.startswith("weldr")]
    assert lines.count("etcd is unreachable") == 1
    assert lines.count("etcd is reachable again") == 1
    assert len(lines) <= 4, lines


async def test_many_requests_at_once_share_one_attempt_to_connect(own_etcd: EtcdServer) -> None:
    async with TcpRelay(own_etcd.endpoint) as relay, connect(relay.endpoint) as client:
        await asyncio.gather(*(client.get(b"a") for _ in range(200)))
        assert relay.connections == 1


async def test_closing_the_client_ends_what_is_in_flight(own_etcd: EtcdServer) -> None:
    client = connect(own_etcd.endpoint)
    await client.get(b"a")
    own_etcd.freeze()
    reading = asyncio.create_task(client.get(b"a", timeout_s=30))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(client.close(), 20)
    with pytest.raises(Exception, match=r"closed|given up"):
        await asyncio.wait_for(reading, 20)
    own_etcd.thaw()


async def test_a_request_that_is_cancelled_stays_cancelled(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        await client.get(b"a")
        own_etcd.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.get(b"a", timeout_s=30)
        own_etcd.thaw()
        assert await client.get(b"a") is None


async def _go_to_next_member(client) -> None:  # type: ignore[no-untyped-def]
    session = await client.connection.session(5)
    client.connection.failed(session, EtcdUnavailableError("the test says so", endpoint=str(session.endpoint)))
    await client.get(b"a")
