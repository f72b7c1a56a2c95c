"""Routes that ask, and routes from what a destination answers: what a site file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.ports import AnsweringSettings, Asking, channel_type, channel_type_names
from bridge.settings import Loaded, Overrides, Target, from_files

SITE = """\
site: {name: test-site, timezone: Europe/Paris}
channels:
  ct-in: {type: mllp-in, listen: "127.0.0.1:0"}
  raw-in: {type: http-in, listen: "127.0.0.1:0", format: bytes}
  his: {type: mllp-out, connect: "127.0.0.1:2575"}
  inbox: {type: file-in, folder: in}
  outbox: {type: file-out, folder: out}
routes:
  all: {from: [ct-in, raw-in, his, inbox], to: outbox}
"""


def read(route: str) -> Loaded:
    files = {"config/bridge.yaml": f"{SITE}  r: {route}\n", "mappings/change.yaml": "messages: [QBP]"}
    return from_files(files, Path("/site/config"), overrides=Overrides.model_construct(), environ={})


def test_a_route_may_ask_instead_of_sending() -> None:
    plain, mapped = (
        read(f"{{from: ct-in, when: {{message: QBP^Q22}}, {more}}}").config.routes["r"]
        for more in ("ask: his", "ask: {his: change}, answer: change, timeout: 500ms")
    )

    assert plain.ask and (plain.ask.to, plain.ask.answer, plain.ask.timeout) == (Target("his"), "", 5.0)
    assert mapped.ask and (mapped.ask.to, mapped.ask.answer, mapped.ask.timeout) == (
        Target("his", "change"),
        "change",
        0.5,
    )
    assert plain.to == mapped.to == ()


def test_what_a_destination_answers_may_be_a_source() -> None:
    assert read("{from: his, when: {message: ORR^O02}, to: outbox}").findings == ()


NO_ANSWERS = "`outbox` cannot be asked: it brings no answers back; fix: ask one that does: his"
NO_ASKER = "`raw-in` cannot ask: only a sender of HL7 v2 on a connection waits for an answer"


@pytest.mark.parametrize(
    ("route", "column", "told"),
    [
        ("{from: ct-in, ask: outbox}", 20, NO_ANSWERS),
        ("{from: ct-in, ask: hiss}", 20, "there is no channel `hiss`; fix: did you mean `his`?"),
        ("{from: ct-in, ask: ct-in}", 20, "`ct-in` cannot be asked"),
        ("{from: ct-in, ask: {his: chnge}}", 20, "there is no mapping `chnge`; fix: did you mean `change`?"),
        ("{from: ct-in, ask: his, answer: chnge}", 30, "there is no mapping `chnge`"),
        ("{from: ct-in, ask: [his]}", 20, "`ask` cannot be used; fix: name a channel"),
        ("{from: ct-in, ask: {his: change, outbox: change}}", 20, "`ask` cannot be used"),
        ("{from: ct-in, ask: {his: }}", 20, "`ask` cannot be used"),
        ("{from: ct-in, ask: his, timeout: soon}", 30, "`timeout` cannot be used; fix: write a duration"),
        ("{from: ct-in, ask: his, timeout: 0s}", 30, "`timeout` (How long the answer may take"),
        ("{from: ct-in, ask: his, to: outbox}", 30, "a route asks, or sends; fix: write a second route"),
        ("{from: ct-in, to: outbox, timeout: 5s}", 32, "`timeout` goes with `ask`; fix: leave it out, or ask"),
        ("{from: raw-in, ask: his}", 7, NO_ASKER),
        ("{from: [ct-in, his], ask: his}", 21, "`his` cannot ask"),
        ("{from: inbox, ask: his}", 7, "`inbox` cannot ask"),
        ("{from: outbox, to: outbox}", 7, "`outbox` only sends: nothing comes from it"),
        ("{from: ct-in, to: outbox, aks: his}", 32, "unknown setting `aks`; fix: did you mean `ask`?"),
    ],
)
def test_a_route_that_cannot_ask_is_told_at_its_place(route: str, column: int, told: str) -> None:
    (found,) = read(route).findings

    assert str(found).startswith(f"config/bridge.yaml:10:{column}: error: {told}")


@pytest.mark.parametrize("kind", channel_type_names())
def test_a_channel_can_be_asked_exactly_when_its_settings_say_so(kind: str) -> None:
    declared = channel_type(kind)

    assert issubclass(declared.settings, AnsweringSettings) == (
        isinstance(declared.build, type) and hasattr(declared.build, "ask")
    )
    assert "ask" in vars(Asking)
