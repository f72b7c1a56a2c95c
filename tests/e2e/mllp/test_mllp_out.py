"""``mllp-out`` against real sockets: the PyPI ``hl7`` server, receivers that misbehave, and our own other end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import hl7
import hl7.mllp
import pytest

from bridge.codecs.ack import acknowledge
from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import wrap
from bridge.errors import BridgeError, CodecError, Held, Overloaded, Permanent, Temporary, Uncertain, Unreachable
from bridge.ports import Answer, Outgoing
from channels.mllp import MLLP_IN
from tests.rigs.mllp import (
    DELIVERY,
    NOW,
    SERVICES,
    Engine,
    Script,
    answering,
    certificate,
    listening,
    message,
    peer,
    port_of,
    send,
    sink,
    until,
)
from tests.rigs.need import require_data


async def test_a_third_party_server_gets_the_same_bytes_over_one_connection() -> None:
    got: list[bytes] = []
    connections = 0

    async def serve(reader: Any, writer: Any) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                block = await reader.readblock()
                got.append(block)
                text = block.decode("utf-8-sig").replace("\n", "\r")
                writer.writemessage(hl7.parse(text).create_ack("AA"))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await hl7.mllp.start_hl7_server(serve, "127.0.0.1", 0, limit=1 << 20, encoding="utf-8")
    files = sorted(require_data("hl7").glob("*/*.hl7"))
    channel = sink(server.sockets[0].getsockname()[1])
    for path in files:
        data = path.read_bytes()
        answer = await channel.send(Outgoing(data, DELIVERY, control_id=parse(data).header.control_id))
        assert answer.summary == "AA", path.name
    await channel.close()
    server.close()

    assert got == [path.read_bytes() for path in files]
    assert connections == 1


@pytest.mark.parametrize(
    ("code", "error", "raised", "kind"),
    [
        ("AE", CodecError("required", at="PID-3", kind="required"), Permanent, "required"),
        ("AE", None, Permanent, "internal"),
        ("CE", CodecError("type", at="PID-7", kind="datatype"), Permanent, "datatype"),
        ("AE", BridgeError("internal"), Temporary, "internal"),
        ("AE", BridgeError("locked", kind="locked"), Temporary, "locked"),
        ("AR", None, Temporary, "internal"),
        ("CR", Overloaded("busy"), Temporary, "internal"),
        ("AR", BridgeError("type", at="MSH-9", kind="message_type"), Permanent, "message_type"),
        ("AR", BridgeError("version", kind="version"), Permanent, "version"),
        ("ZZ", None, Permanent, "internal"),
    ],
)
async def test_a_negative_answer_is_judged_by_its_code_and_error_condition(
    code: str, error: BridgeError | None, raised: type[BridgeError], kind: str
) -> None:
    async with peer(answering(code, error)) as (port, _):
        channel = sink(port)
        with pytest.raises(raised) as caught:
            await send(channel)
        await channel.close()

    assert not isinstance(caught.value, Unreachable | Uncertain)
    assert caught.value.kind == kind
    assert caught.value.at == (error.at if error and error.at else "MSA-1")
    assert "Testone" not in str(caught.value)


async def test_the_channels_own_policy_goes_before_the_built_in_one() -> None:
    error = CodecError("required", at="PID-3", kind="required")
    async with peer(answering("AE", error)) as (port, _):
        retried, done = sink(port, ack_policy={"AE": "retry"}), sink(port, ack_policy={"AE/101": "done", "AE": "dead"})
        with pytest.raises(Temporary):
            await send(retried)
        assert (await send(done)).summary == "AE"
        await retried.close()
        await done.close()


@pytest.mark.parametrize("policy", [{"XX": "done"}, {"AE": "perhaps"}, {"AE/1": "done"}])
def test_a_policy_for_no_answer_is_refused(policy: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        sink(1, ack_policy=policy)


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for channel in (sink(port), sink(port, host="no-such-host.invalid")):
        with pytest.raises(Unreachable) as caught:
            await send(channel)
        assert caught.value.fix


async def test_no_answer_in_time_is_uncertain_and_a_late_answer_is_not_credited_to_the_next_message() -> None:
    release = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
        if b"|C1|" in payload:
            await release.wait()
        code = "AE" if b"|C1|" in payload else "AA"
        writer.write(wrap(acknowledge(None, payload, code=code, control_id="P", now=NOW)))
        await reader.read()

    async with peer(late) as (port, connections):
        channel = sink(port, ack_timeout="500ms")
        with pytest.raises(Uncertain):
            await send(channel, 1)
        sending = asyncio.create_task(send(channel, 2))
        release.set()
        assert (await sending).summary == "AA"
        await channel.close()

    assert len(connections) == 2


async def test_an_answer_to_another_message_is_ignored_and_the_right_one_awaited() -> None:
    async def confused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
        for other in (b"not an answer", acknowledge(None, message("99"), code="AE", control_id="P", now=NOW)):
            writer.write(wrap(other))
        writer.write(b"junk" + wrap(acknowledge(None, payload, code="AA", control_id="P", now=NOW)).removesuffix(b"\r"))
        await reader.read()

    async with peer(confused) as (port, _):
        channel = sink(port)
        assert (await send(channel)).summary == "AA"
        await channel.close()

    assert channel.peers.records["127.0.0.1"].discarded == 4
    assert bytes.fromhex(channel.peers.records["127.0.0.1"].sample) == b"junk"


async def test_a_peer_that_closes_without_answering_leaves_us_uncertain() -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\x1c\r")

    async with peer(closes) as (port, _):
        channel = sink(port)
        with pytest.raises(Uncertain):
            await send(channel)
        await channel.close()


@pytest.mark.parametrize("pause", [0.0, 0.15])
async def test_a_connection_that_the_peer_closed_after_answering_is_replaced_before_sending(pause: float) -> None:
    async with peer(answering(times=1)) as (port, connections):
        channel = sink(port)
        for number in range(5):
            assert (await send(channel, number)).summary == "AA"
            await until(lambda: not channel.links) if not pause else await asyncio.sleep(pause)
        await channel.close()

    assert len(connections) == 5


async def test_a_message_that_the_peer_never_took_completely_is_known_not_to_have_arrived() -> None:
    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.4)

    async with peer(never_reads) as (port, _):
        channel = sink(port, ack_timeout="200ms")
        with pytest.raises(Unreachable):
            await send(channel, data=message(1, "x" * 30_000_000))
        await channel.close()


async def test_deliveries_under_way_at_once_have_a_connection_each_and_keep_it() -> None:
    async with peer(answering()) as (port, connections):
        channel = sink(port, parallel=4)
        for _ in range(3):
            await asyncio.gather(*(send(channel, number) for number in range(4)))
        await channel.close()

    assert len(connections) == 4


async def test_a_cancelled_delivery_closes_its_connection() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(silent) as (port, _):
        channel = sink(port)
        sending = asyncio.create_task(send(channel))
        await until(lambda: bool(channel.links))
        await asyncio.sleep(0.05)
        sending.cancel()
        await asyncio.wait([sending])
        await until(lambda: not channel.links)
        await channel.close()

    assert sending.cancelled()


async def test_a_message_that_would_break_the_frame_is_dead_at_once() -> None:
    channel = sink(1)
    with pytest.raises(Permanent) as caught:
        await send(channel, data=message(1, "a\x1cb"))

    assert caught.value.at == "MLLP"


# enhanced mode


def saying(*codes: str) -> Script:
    """A receiver that gives each of these answers to every message, in this sequence."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
            for code in codes:
                writer.write(wrap(acknowledge(None, payload, code=code, control_id="P", now=NOW)))

    return script


@pytest.mark.parametrize(
    ("codes", "wait_for", "summary"),
    [
        (("CA",), "accept", "CA"),
        (("CA", "AA"), "accept", "CA"),
        (("CA", "AE"), "accept", "CA"),
        (("AA",), "accept", "AA"),
        (("CA", "AA"), "application", "AA"),
        (("AA",), "application", "AA"),
    ],
)
async def test_a_commit_answer_is_enough_unless_the_channel_waits_for_the_application(
    codes: tuple[str, ...], wait_for: str, summary: str
) -> None:
    async with peer(saying(*codes)) as (port, connections):
        channel = sink(port, wait_for=wait_for)
        for number in range(3):
            assert (await send(channel, number)).summary == summary
        await channel.close()

    assert len(connections) == 1


@pytest.mark.parametrize(
    ("codes", "raised"), [(("CA", "AE"), Permanent), (("CE",), Permanent), (("CA", "AR"), Temporary)]
)
async def test_a_channel_that_waits_for_the_application_learns_what_it_says(
    codes: tuple[str, ...], raised: type[BridgeError]
) -> None:
    async with peer(saying(*codes)) as (port, _):
        channel = sink(port, wait_for="application")
        with pytest.raises(raised):
            await send(channel)
        await channel.close()


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_was_committed_is_not_sent_again_when_its_application_stays_silent(leaves: bool) -> None:
    async def commits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
        writer.write(wrap(acknowledge(None, payload, code="CA", control_id="P", now=NOW)))
        await writer.drain()
        if not leaves:
            await reader.read()

    async with peer(commits) as (port, _):
        channel = sink(port, wait_for="application", ack_timeout="200ms")
        with pytest.raises(Held, match="took it"):
            await send(channel)
        await channel.close()


async def test_a_message_that_asks_for_no_answer_is_sent_without_waiting_for_one() -> None:
    arrived = bytearray()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            arrived.extend(data)

    data = message(1, "x" * 3_000_000).replace(b"|2.5.1|||", b"|2.5.1|||NE|NE")
    async with peer(silent) as (port, connections):
        channel = sink(port)
        for _ in range(2):
            assert (await send(channel, data=data)).summary == "sent"
        await until(lambda: len(arrived) >= 2 * len(wrap(data)))
        await channel.close()

    assert arrived == wrap(data) * 2
    assert len(connections) == 1


async def test_a_message_that_asks_for_no_answer_and_does_not_leave_completely_has_not_arrived() -> None:
    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.4)

    data = message(1, "x" * 30_000_000).replace(b"|2.5.1|||", b"|2.5.1|||NE|NE")
    async with peer(never_reads) as (port, _):
        channel = sink(port, ack_timeout="100ms")
        with pytest.raises(Unreachable):
            await send(channel, data=data)
        await channel.close()


# connections


async def test_each_message_has_a_connection_of_its_own_where_the_receiver_wants_it() -> None:
    async with peer(answering()) as (port, connections):
        channel = sink(port, connection="per_message")
        for number in range(4):
            assert (await send(channel, number)).summary == "AA"
        await until(lambda: not channel.links)
        await channel.close()

    assert len(connections) == 4


async def test_answers_on_a_shared_connection_are_matched_by_control_id_in_whatever_order_they_come() -> None:
    async def backwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            payloads = [(await reader.readuntil(b"\x1c\r"))[1:-2] for _ in range(4)]
            for payload in reversed(payloads):
                error = BridgeError("busy", kind="unavailable") if b"|C2|" in payload else None
                code = "AR" if error else "AA"
                writer.write(wrap(acknowledge(None, payload, code=code, control_id="P", now=NOW, error=error)))

    async with peer(backwards) as (port, connections):
        channel = sink(port, parallel=4, pipeline=4)
        warm = await channel._deliveries._connect("C0")
        warm._questions.clear()
        for _ in range(3):
            ends = await asyncio.gather(*(send(channel, number) for number in range(4)), return_exceptions=True)
            assert [type(one) for one in ends] == [Answer, Answer, Temporary, Answer]
        await channel.close()

    assert len(connections) == 1


async def test_messages_whose_answers_could_be_mistaken_never_share_a_connection() -> None:
    async with peer(answering()) as (port, connections):
        channel = sink(port, parallel=4, pipeline=4)
        nameless = Outgoing(message(1), DELIVERY)
        await asyncio.gather(send(channel, 1), send(channel, 1), channel.send(nameless), channel.send(nameless))
        await channel.close()

    assert len(connections) == 4


async def test_a_silent_receiver_is_probed_by_the_system() -> None:
    async with peer(answering()) as (port, _):
        channel = sink(port, keepalive="30s")
        await send(channel)
        (link,) = channel.links
        bound = link._transport.get_extra_info("socket")
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        await channel.close()


async def test_an_answer_can_park_the_lane_whatever_becomes_of_other_dead_letters() -> None:
    error = CodecError("unknown patient", at="PID-3", kind="unknown_key")
    async with peer(answering("AE", error)) as (port, _):
        channel = sink(port, ack_policy={"AE/204": "park", "AE": "dead"}, on_dead="pass")
        with pytest.raises(Held):
            await send(channel)
        await channel.close()


# both ends


async def test_what_one_end_sends_the_other_takes() -> None:
    engine = Engine()
    async with listening(engine) as source:
        channel = sink(port_of(source))
        for number in range(200):
            assert (await send(channel, number)).summary == "AA"
        assert channel.endpoint == source.endpoint
        await channel.close()

    assert [one.data for one in engine.received] == [message(number) for number in range(200)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs"):
        certificate(folder, name)
    return folder


async def test_tls_asks_both_sides_for_a_certificate_they_trust(certificates: Path) -> None:
    def tls(own: str, trusted: str) -> dict[str, str]:
        files = {"certificate": f"{own}.pem", "key": f"{own}.key", "ca": f"{trusted}.pem"}
        return {name: str(certificates / file) for name, file in files.items() if file != ".pem" and file != ".key"}

    engine = Engine()
    async with listening(engine, tls=tls("ours", "theirs")) as source:
        good, unknown = sink(port_of(source), tls=tls("theirs", "ours")), sink(port_of(source), tls=tls("ours", "ours"))
        wrong = sink(port_of(source), tls=tls("theirs", "theirs"))
        assert (await send(good, data=message(1, "x" * 300_000))).summary == "AA"
        assert source.endpoint.startswith("mllps://")
        with pytest.raises(Unreachable, match="certificate"):
            await send(wrong)
        with pytest.raises((Unreachable, Uncertain)):
            await send(unknown)
        for channel in (good, unknown, wrong):
            await channel.close()

    assert len(engine.received) == 1


async def test_a_renewed_certificate_of_ours_is_shown_by_the_next_connection(tmp_path: Path) -> None:
    for name in ("theirs", "former", "next"):
        certificate(tmp_path, name)
    for kind in ("pem", "key"):
        (tmp_path / f"ours.{kind}").write_bytes((tmp_path / f"former.{kind}").read_bytes())
    server = {"certificate": str(tmp_path / "theirs.pem"), "key": str(tmp_path / "theirs.key")}
    client = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key")}
    server["ca"], client["ca"] = str(tmp_path / "next.pem"), str(tmp_path / "theirs.pem")
    async with listening(Engine(), tls=server) as source:
        channel = sink(port_of(source), tls=client)
        with pytest.raises((Unreachable, Uncertain)):
            await send(channel)

        for kind in ("pem", "key"):
            (tmp_path / f"ours.{kind}").write_bytes((tmp_path / f"next.{kind}").read_bytes())

        assert (await send(channel)).summary == "AA"
        await channel.close()


def test_tls_files_that_cannot_be_used_are_a_settings_error(tmp_path: Path) -> None:
    tls = {"certificate": str(tmp_path / "missing.pem")}
    inbound = MLLP_IN.settings.model_validate({"type": "mllp-in", "listen": "127.0.0.1:0", "tls": tls})

    with pytest.raises(BridgeError) as caught:
        sink(1, tls=tls)
    with pytest.raises(BridgeError) as also_caught:
        MLLP_IN.build(inbound, SERVICES)

    for error in (caught.value, also_caught.value):
        assert (error.kind, error.at) == ("settings", "channels.the-channel.tls")
