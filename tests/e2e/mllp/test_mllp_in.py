"""``mllp-in`` against real sockets: the PyPI ``hl7`` client, and senders that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient

from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import wrap
from bridge.errors import BridgeError, CodecError, Overloaded
from bridge.ports import Inbound, Reply
from channels.mllp import MLLP_IN
from channels.mllp_server import MllpSource
from tests.rigs.mllp import SERVICES, Client, Engine, accepted, certificate, listening, message, port_of, until
from tests.rigs.need import require_data

# third parties


async def test_a_message_of_a_third_party_client_arrives_unchanged_and_is_answered() -> None:
    def send(port: int, data: bytes) -> bytes:
        with MLLPClient("127.0.0.1", port) as client:
            answer: bytes = client.send_message(data)
            return answer

    engine = Engine()
    files = sorted(require_data("hl7").glob("*/*.hl7"))
    async with listening(engine) as source:
        for path in files:
            answer = await asyncio.to_thread(send, port_of(source), path.read_bytes())
            read = hl7.parse(answer.strip(b"\x0b\x1c\r").decode())
            assert str(read.segment("MSA")(1)) == "AA", path.name

    assert [one.data for one in engine.received] == [path.read_bytes() for path in files]
    assert all(one.peer.startswith("127.0.0.1:") for one in engine.received)


async def test_a_message_of_twenty_megabytes_is_taken() -> None:
    engine, data = Engine(), message(1, "x" * 20_000_000)
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(wrap(data))
        assert [one.code for one in await client.answers(1)] == ["AA"]
        await client.close()

    assert engine.received[0].data == data


# sequence and pressure


async def test_answers_go_out_in_order_of_arrival_though_they_are_ready_in_another() -> None:
    first = asyncio.Event()

    async def later_ones_first(inbound: Inbound) -> Reply:
        if b"|C0|" in inbound.data:
            await first.wait()
        return accepted(inbound.data)

    engine = Engine(later_ones_first)
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(b"".join(wrap(message(number)) for number in range(20)))
        await until(lambda: len(engine.received) == 20 and engine.under_way == 1)
        first.set()
        assert [one.control_id for one in await client.answers(20)] == [f"C{number}" for number in range(20)]
        await client.close()

    assert [parse(one.data).get("MSH-10") for one in engine.received] == [f"C{number}" for number in range(20)]


@pytest.mark.parametrize(("settings", "depth"), [({}, 32), ({"pipeline": 3}, 3), ({"validate": "strict"}, 1)])
async def test_no_more_messages_are_under_way_than_the_pipeline_takes(settings: dict[str, Any], depth: int) -> None:
    engine = Engine()
    engine.gate.clear()
    async with listening(engine, **settings) as source:
        client = await Client.connect(source)
        sending = asyncio.create_task(client.send(b"".join(wrap(message(number)) for number in range(100))))
        await until(lambda: engine.under_way == depth)
        engine.gate.set()
        assert len(await client.answers(100)) == 100
        await sending
        await client.close()

    assert engine.most == depth


async def test_a_sender_that_does_not_wait_is_slowed_down_by_its_own_connection() -> None:
    engine = Engine()
    engine.gate.clear()
    data = b"".join(wrap(message(number, "x" * 10_000)) for number in range(3000))
    async with listening(engine, pipeline=4) as source:
        client = await Client.connect(source)
        sending = asyncio.create_task(client.send(data))
        await until(lambda: engine.under_way == 4)
        await asyncio.sleep(0.2)
        (connection,) = source.connections
        held = connection._framer.received
        engine.gate.set()
        assert len(await client.answers(3000)) == 3000
        await sending
        await client.close()

    assert held < 2_000_000 < len(data)


async def test_a_client_that_never_reads_its_answers_is_no_longer_read() -> None:
    async def at_length(inbound: Inbound) -> Reply:
        return Reply(ok=True, message="m", body=b"MSH|^~\\&|\rMSA|AA|C1|" + b"x" * 200_000)

    engine = Engine(at_length)
    async with listening(engine, pipeline=2) as source:
        client = await Client.connect(source)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(wrap(message(1)) * 100)
        await until(lambda: bool(engine.received))
        (connection,) = source.connections
        await until(lambda: connection._clogged)
        await asyncio.sleep(0.1)
        taken = len(engine.received)
        client.writer.write(wrap(message(1)) * 50)
        await asyncio.sleep(0.1)
        assert len(engine.received) == taken < 100
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await client.answers(150)) == 150
        await client.close()


# bad input


async def test_junk_between_frames_is_counted_with_a_sample_and_does_no_harm() -> None:
    engine = Engine()
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(b"hello" + wrap(message(1)) + b"\x0bhalf a mess" + wrap(message(2)) + b"\r\n")
        assert [one.control_id for one in await client.answers(2)] == ["C1", "C2"]
        await client.close()
        await until(lambda: not source.connections)

    (discarded,) = source.peers.records.values()
    assert discarded.discarded == 5 + 12 + 2
    assert bytes.fromhex(discarded.sample).startswith(b"hello")


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000])
async def test_a_client_of_another_protocol_leaves_the_channel_as_it_was(junk: bytes) -> None:
    engine = Engine()
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(junk)
        client.writer.write_eof()
        assert await client.answers(1) == []
        await until(lambda: not source.connections)

    assert engine.received == []
    assert source.peers.records["127.0.0.1"].discarded == len(junk)


async def test_bytes_of_any_kind_in_a_frame_are_handed_over_and_refused_by_the_engine_not_the_channel() -> None:
    engine = Engine()
    async with listening(engine) as source:
        client = await Client.connect(source)
        for payload in (b"", b"\x00\x01", b"PID|1", message(1)):
            await client.send(wrap(payload))
        assert [one.code for one in await client.answers(4)] == ["AE", "AE", "AE", "AA"]
        await client.close()


async def test_one_byte_at_a_time_is_one_message() -> None:
    engine = Engine()
    async with listening(engine) as source:
        client = await Client.connect(source)
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in wrap(message(1)):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert len(await client.answers(1)) == 1
        await client.close()

    assert [one.data for one in engine.received] == [message(1)]


@pytest.mark.parametrize("closing", [False, True])
async def test_a_frame_that_ends_without_carriage_return_is_answered(closing: bool) -> None:
    engine = Engine()
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(wrap(message(1)).removesuffix(b"\r"))
        if closing:
            client.writer.write_eof()
        assert [one.control_id for one in await client.answers(1)] == ["C1"]
        await client.close()

    assert [one.data for one in engine.received] == [message(1)]


async def test_an_over_long_message_is_answered_ar_after_the_ones_before_it_and_the_connection_closed() -> None:
    engine = Engine()
    async with listening(engine, max_size="10kB") as source:
        client = await Client.connect(source)
        sending = asyncio.create_task(client.send(wrap(message(1)) + wrap(message(2, "x" * 9_000_000))))
        first, second = await client.answers(2)
        assert (first.code, first.control_id) == ("AA", "C1")
        assert (second.code, second.control_id, second.errors[0].code) == ("AR", "C2", "207")
        assert await client.answers(1) == []
        await asyncio.wait([sending])
        client.writer.transport.abort()
        await until(lambda: not source.connections)

    assert [one.data for one in engine.received] == [message(1)]


async def test_a_failure_while_receiving_is_answered_ar_and_the_connection_lives_on() -> None:
    async def fails_once(inbound: Inbound) -> Reply:
        if b"|C1|" in inbound.data:
            raise RuntimeError("a defect")
        return accepted(inbound.data)

    async with listening(Engine(fails_once)) as source:
        client = await Client.connect(source)
        await client.send(wrap(message(1)) + wrap(message(2)))
        first, second = await client.answers(2)
        await client.close()

    assert (first.code, first.control_id, first.errors[0].code) == ("AR", "C1", "207")
    assert (second.code, second.control_id) == ("AA", "C2")


@pytest.mark.parametrize(
    ("error", "code"), [(None, "AA"), (Overloaded("busy"), "AR"), (CodecError("bad", at="PID-3"), "AE")]
)
async def test_where_the_engine_gives_no_answer_of_its_own_the_channel_makes_one(
    error: BridgeError | None, code: str
) -> None:
    async def bare(inbound: Inbound) -> Reply:
        return Reply(ok=error is None, message="m", error=error)

    async with listening(Engine(bare), format="bytes") as source:
        client = await Client.connect(source)
        await client.send(wrap(message(7)))
        (answer,) = await client.answers(1)
        await client.close()

    assert (answer.code, answer.control_id) == (code, "C7")


# connections


async def test_a_taken_port_is_a_settings_error_with_a_fix() -> None:
    async with listening(Engine()) as source:
        model = MLLP_IN.settings.model_validate({"type": "mllp-in", "listen": f"127.0.0.1:{port_of(source)}"})
        with pytest.raises(BridgeError) as caught:
            await MLLP_IN.build(model, SERVICES).start(Engine())

    assert caught.value.kind == "settings"
    assert caught.value.at.endswith(str(port_of(source)))
    assert "another" in caught.value.fix


async def test_stopping_lets_what_is_under_way_be_answered_and_takes_nothing_new() -> None:
    engine = Engine()
    engine.gate.clear()
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(wrap(message(1)) + wrap(message(2)) + b"\x0bhalf")
        await until(lambda: engine.under_way == 2)
        stopping = asyncio.create_task(source.stop())
        await asyncio.sleep(0)
        await client.send(wrap(message(3)))
        engine.gate.set()
        assert [one.control_id for one in await client.answers(3)] == ["C1", "C2"]
        await stopping
        with pytest.raises(OSError):
            await Client.connect(source)
        await client.close()

    assert len(engine.received) == 2


async def test_a_client_that_leaves_early_does_not_stop_what_it_sent_from_being_taken() -> None:
    engine = Engine()
    engine.gate.clear()
    async with listening(engine) as source:
        client = await Client.connect(source)
        await client.send(wrap(message(1)))
        await until(lambda: engine.under_way == 1)
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        engine.gate.set()
        await until(lambda: not source.connections)

    assert engine.under_way == 0


async def test_a_client_that_half_closes_still_gets_its_answers() -> None:
    engine = Engine()
    engine.gate.clear()
    async with listening(engine, pipeline=2) as source:
        client = await Client.connect(source)
        await client.send(b"".join(wrap(message(number)) for number in range(5)))
        client.writer.write_eof()
        await until(lambda: engine.under_way == 2)
        engine.gate.set()
        assert len(await client.answers(6)) == 5
        await client.close()


async def test_connections_beyond_the_limit_are_closed_and_the_others_stay() -> None:
    async with listening(Engine(), max_connections=2) as source:
        clients = [await Client.connect(source) for _ in range(2)]
        await until(lambda: len(source.connections) == 2)
        third = await Client.connect(source)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await third.answers(1)
        for client in clients:
            await client.send(wrap(message(1)))
            assert len(await client.answers(1)) == 1
            await client.close()
        await until(lambda: not source.connections)
        fourth = await Client.connect(source)
        await fourth.send(wrap(message(1)))
        assert len(await fourth.answers(1)) == 1
        await fourth.close()


@pytest.mark.parametrize("start", [b"", b"\x0bMSH|half"])
async def test_a_silent_connection_is_closed(start: bytes) -> None:
    async with listening(Engine(), idle_timeout="100ms", frame_timeout="100ms") as source:
        client = await Client.connect(source)
        await client.send(start)
        assert await client.answers(1) == []
        await client.close()


async def test_a_connection_that_waits_for_us_is_not_idle() -> None:
    engine = Engine()
    engine.gate.clear()
    async with listening(engine, idle_timeout="50ms") as source:
        client = await Client.connect(source)
        await client.send(wrap(message(1)))
        await asyncio.sleep(0.3)
        engine.gate.set()
        assert len(await client.answers(1)) == 1
        await client.close()


async def test_a_peer_that_never_reads_its_answers_is_let_go_and_its_resend_is_answered() -> None:
    async def at_length(inbound: Inbound) -> Reply:
        return Reply(ok=True, message="m", body=b"MSH|^~\\&|\rMSA|AA|C1|" + b"x" * 200_000)

    engine = Engine(at_length)
    async with listening(engine, pipeline=2, frame_timeout="100ms") as source:
        client = await Client.connect(source)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(wrap(message(1)) * 200)
        await until(lambda: bool(engine.received))
        await until(lambda: not source.connections)
        again = await Client.connect(source)
        await again.send(wrap(message(1)))
        assert len(await again.answers(1)) == 1
        client.writer.transport.abort()
        await again.close()


async def test_a_peer_that_half_closes_and_never_reads_is_let_go() -> None:
    async def at_length(inbound: Inbound) -> Reply:
        return Reply(ok=True, message="m", body=b"MSH|^~\\&|\rMSA|AA|C1|" + b"x" * 5_000_000)

    async with listening(Engine(at_length), frame_timeout="100ms") as source:
        client = await Client.connect(source)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(wrap(message(1)) * 4)
        client.writer.write_eof()
        await until(lambda: bool(source.connections))
        await until(lambda: not source.connections)
        client.writer.transport.abort()


async def test_a_silent_peer_is_probed_by_the_system() -> None:
    async with listening(Engine(), keepalive="20s") as source:
        client = await Client.connect(source)
        await until(lambda: bool(source.connections))
        (connection,) = source.connections
        bound = connection._transport.get_extra_info("socket")
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
        await client.close()


# who may connect


async def test_one_address_cannot_take_all_connections() -> None:
    async with listening(Engine(), peer_connections=2) as source:
        clients = [await Client.connect(source) for _ in range(2)]
        await until(lambda: len(source.connections) == 2)
        third = await Client.connect(source)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await third.answers(1)
        other = await Client.connect(source, local_addr=("127.0.0.2", 0))
        await other.send(wrap(message(1)))
        assert len(await other.answers(1)) == 1
        for client in (*clients, other):
            await client.close()

    assert source.peers.records["127.0.0.1"].refused == 1
    assert "connections of this address" in source.peers.records["127.0.0.1"].why


@pytest.mark.parametrize(
    ("allow", "welcome"),
    [
        (["127.0.0.1"], True),
        (["10.0.0.0/8", "127.0.0.0/30"], True),
        (["10.0.0.0/8", "::1"], False),
        (["127.0.0.2"], False),
    ],
)
async def test_only_peers_on_the_list_are_let_in_and_the_others_are_counted(allow: list[str], welcome: bool) -> None:
    engine = Engine()
    async with listening(engine, allow=allow) as source:
        client = await Client.connect(source)
        client.writer.write(wrap(message(1)))
        try:
            answers = await client.answers(1)
        except ConnectionError:
            answers = []
        client.writer.transport.abort()

    assert len(answers) == len(engine.received) == welcome
    assert source.peers.refused_connections == (not welcome)
    assert [record.why for record in source.peers.records.values()] == (
        [] if welcome else ["the address is not on the list of those that may connect"]
    )


async def test_an_ipv4_peer_on_an_ipv6_socket_is_known_by_its_ipv4_address() -> None:
    async with listening(Engine(), allow=["10.1.2.0/24"]) as source:
        assert not source.refusal("::ffff:10.1.2.3")
        assert source.refusal("::ffff:10.1.3.3")
        assert source.refusal("fe80::1%eth0")


def test_an_allow_list_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError):
        MLLP_IN.settings.model_validate({"type": "mllp-in", "listen": "127.0.0.1:0", "allow": ["ris.example"]})


# certificates


def renewed(folder: Path, name: str) -> None:
    """Put another certificate where the former was, as certificate managers do."""
    fresh = folder / "fresh"
    fresh.mkdir(exist_ok=True)
    certificate(fresh, name)
    for ending in ("key", "pem"):
        (fresh / f"{name}.{ending}").replace(folder / f"{name}.{ending}")


async def shown(source: MllpSource) -> bytes:
    """The certificate that the channel shows to a new connection, DER."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = await Client.connect(source, ssl=trusting)
    found: bytes = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    client.writer.transport.abort()
    return found


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def test_a_renewed_certificate_is_shown_without_a_restart_and_open_connections_stay(tmp_path: Path) -> None:
    certificate(tmp_path, "ours")
    tls = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key")}
    async with listening(Engine(), tls=tls) as source:
        before = ssl.create_default_context(cafile=tmp_path / "ours.pem")
        open_one = await Client.connect(source, ssl=before)
        assert await shown(source) == der(tmp_path / "ours.pem")

        renewed(tmp_path, "ours")

        assert await shown(source) == der(tmp_path / "ours.pem")
        after = ssl.create_default_context(cafile=tmp_path / "ours.pem")
        fresh = await Client.connect(source, ssl=after)
        for client in (open_one, fresh):
            await client.send(wrap(message(1)))
            assert [one.code for one in await client.answers(1)] == ["AA"]
            client.writer.transport.abort()


async def test_a_renewal_that_is_half_written_leaves_the_former_certificate_in_use(tmp_path: Path) -> None:
    certificate(tmp_path, "ours")
    first = der(tmp_path / "ours.pem")
    tls = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key")}
    async with listening(Engine(), tls=tls) as source:
        (tmp_path / "ours.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        assert await shown(source) == first
        (tmp_path / "ours.pem").unlink()
        assert await shown(source) == first

        renewed(tmp_path, "ours")

        assert await shown(source) == der(tmp_path / "ours.pem") != first


async def test_a_sender_whose_authority_was_removed_is_no_longer_let_in(tmp_path: Path) -> None:
    for name in ("ours", "former", "next"):
        certificate(tmp_path, name)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes((tmp_path / "former.pem").read_bytes())
    tls = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key"), "ca": str(trusted)}
    contexts = {name: ssl.create_default_context(cafile=tmp_path / "ours.pem") for name in ("former", "next")}
    for name, context in contexts.items():
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")

    async def answered(source: MllpSource, name: str) -> bool:
        try:
            client = await Client.connect(source, ssl=contexts[name])
            await client.send(wrap(message(1)))
            found = await client.answers(1)
        except OSError:
            return False
        client.writer.transport.abort()
        return len(found) == 1

    async with listening(Engine(), tls=tls) as source:
        assert [await answered(source, name) for name in ("former", "next")] == [True, False]

        trusted.write_bytes((tmp_path / "next.pem").read_bytes())

        assert [await answered(source, name) for name in ("former", "next")] == [False, True]


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\n\r\n", wrap(message(1))])
async def test_a_tls_handshake_that_fails_is_counted(hello: bytes, tmp_path: Path) -> None:
    certificate(tmp_path, "ours")
    tls = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key")}
    async with listening(Engine(), tls=tls, frame_timeout="200ms") as source:
        plain = await Client.connect(source)
        await plain.send(hello)
        await until(lambda: source.peers.refused_connections == 1)
        plain.writer.transport.abort()

    assert "TLS handshake" in source.peers.records["unknown"].why
    assert not source._shaking
