from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import SettingsError
from bridge.ports import HostPort
from bridge.settings import Loaded, Overrides, Target, from_files, load
from tests.rigs.need import REPOSITORY

SITE = "site: {name: test-site, timezone: Europe/Paris}\n"
CHANNELS = """
channels:
  inbox: {type: file-in, folder: in}
  outbox: {type: file-out, folder: out}
routes:
  all: {from: inbox, to: outbox}
"""
NOTHING_SET = Overrides.model_construct()


def read(text: str, environ: dict[str, str] | None = None, **others: str) -> Loaded:
    files = {"config/bridge.yaml": text, **{name.replace("__", "/") + ".yaml": body for name, body in others.items()}}
    return from_files(files, Path("/site/config"), overrides=NOTHING_SET, environ=environ or {})


def findings(text: str, environ: dict[str, str] | None = None, **others: str) -> list[str]:
    return [str(finding).removeprefix("config/bridge.yaml:") for finding in read(text, environ, **others).findings]


def test_the_site_file_that_is_shipped_has_no_findings() -> None:
    loaded = load(REPOSITORY / "config" / "bridge.yaml", overrides=NOTHING_SET, environ={})

    assert loaded.findings == ()
    assert set(loaded.config.channels) == {"ris-in", "his-in", "worklist", "fhir", "pacs-out", "his-fhir"}
    mapped = (Target("worklist", "order-to-worklist"), Target("fhir", "order-to-fhir"))
    assert loaded.config.routes["orders"].to == (*mapped, Target("pacs-out"))


def test_a_small_site_file_has_defaults_for_the_rest() -> None:
    config = read(SITE + CHANNELS).config

    assert config.web.listen == HostPort("127.0.0.1", 8080)
    assert config.receipts.window == 7 * 24 * 3600
    assert config.retention.days == 90
    assert config.store.url == config.broker.url == ""
    assert config.routes["all"].sources == ("inbox",)
    assert config.routes["all"].when is None


def test_folders_are_seen_from_the_site_file() -> None:
    config = read(SITE + CHANNELS + "data: state").config

    assert config.data == Path("/site/config/state")
    assert config.mappings == Path("/site/config/../mappings")
    assert config.channels["inbox"].folder == Path("/site/config/in")  # type: ignore[attr-defined]


def test_every_problem_is_told_at_once_with_its_place() -> None:
    told = findings(
        """\
site: {nam: x, timezone: Europe/Pari}
sytems: {}
channels:
  a: {type: file-inn}
  b: {type: file-in, folder: in, validate: of, poll: 3 seconds}
  c: {type: file-out, folder: out, retry: {first: 1s, maxx: 3}, parallel: 0}
  d: {type: file-in}
routes:
  r: {form: b, to: [c, nowhere]}
receipts: {window: 7 weeks}
"""
    )

    assert told == [
        "1:1: error: `name` is missing; fix: add `name:` (Short name of the hospital, practice or group)",
        "1:8: error: unknown setting `nam`; fix: did you mean `name`?",
        "1:16: error: `timezone` cannot be used; fix: did you mean `Europe/Paris`?",
        "2:1: error: unknown section `sytems`; fix: did you mean `systems`?",
        "4:7: error: there is no channel type `file-inn`; fix: did you mean `file-in`?",
        "5:34: error: `validate` cannot be `of`; fix: did you mean `off`?",
        "5:48: error: `poll` cannot be used; fix: write a duration as 500ms, 2s, 5m, 1h or 7d",
        "6:55: error: unknown setting `maxx`; fix: did you mean `max`?",
        "6:65: error: `parallel` (Deliveries of different lane keys under way at once): "
        "input should be greater than or equal to 1",
        "7:3: error: `folder` is missing; "
        "fix: add `folder:` (Folder to watch; it must exist, so that an unmounted share is noticed)",
        "9:3: error: `from` must name a channel, or a list of channels; fix: for example `from: ris-in`",
        "9:7: error: unknown setting `form`; fix: did you mean `from`?",
        "9:24: error: there is no channel `nowhere`",
        "10:12: error: `window` cannot be used; fix: write a duration as 500ms, 2s, 5m, 1h or 7d",
    ]


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        ("r: {from: outbox, to: outbox}", "`outbox` only sends: nothing comes from it"),
        ("r: {from: inbox, to: inbox}", "`inbox` only receives: nothing can be sent to it"),
        ("r: {from: inbo, to: outbox}", "there is no channel `inbo`; fix: did you mean `inbox`?"),
        ("r: {from: inbox, to: []}", "a route needs a target"),
        ("r: {from: inbox, to: [outbox, outbox]}", "`outbox` is named twice"),
        ("r: {from: inbox, to: [{outbox: chnge}]}", "there is no mapping `chnge`; fix: did you mean `change`?"),
        ("r: {from: inbox, to: [{outbox: }]}", "a target is a channel, or a channel and its mapping"),
        ("a b: {from: inbox, to: outbox}", "`a b` cannot be a name"),
        ("r: go", "`r` must be a block of `name: value`"),
    ],
)
def test_a_route_that_leads_nowhere_is_told(routes: str, told: str) -> None:
    text = SITE + "channels: {inbox: {type: file-in, folder: a}, outbox: {type: file-out, folder: b}}\n"

    found = findings(text + f"routes:\n  ok: {{from: inbox, to: outbox}}\n  {routes}", mappings__change="messages: ADT")

    assert len(found) == 1
    assert told in found[0]
    assert found[0].startswith("5:")


def test_a_channel_with_a_mistake_of_its_own_is_not_also_called_missing() -> None:
    text = SITE + "channels:\n  inbox: {type: file-in, folder: a}\n  outbox: {type: file-out}\n"

    found = findings(text + "routes: {all: {from: inbox, to: outbox}}")

    assert [one.split(";")[0] for one in found] == ["4:3: error: `folder` is missing"]


def test_a_channel_that_nobody_uses_is_a_warning_and_the_site_still_runs() -> None:
    loaded = read(SITE + CHANNELS.replace("routes", "  spare: {type: file-out, folder: spare}\nroutes"))

    assert [str(one) for one in loaded.findings] == [
        "config/bridge.yaml:6:3: warning: no route uses the channel `spare`; fix: name it in a route, or remove it"
    ]
    assert "spare" in loaded.config.channels


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:9001", "127.0.0.1:9001", True),
        ("127.0.0.1:9001", "0.0.0.0:9001", True),
        ("127.0.0.1:8080", "127.0.0.1:9001", True),
        ("127.0.0.1:9001", "127.0.0.1:9002", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_ends_on_one_port_are_told(one: str, other: str, clash: bool) -> None:
    channels = f"a: {{type: http-in, listen: '{one}'}}, b: {{type: http-in, listen: '{other}'}}"

    found = findings(
        SITE + f"channels: {{{channels}, o: {{type: file-out, folder: o}}}}\nroutes: {{r: {{from: [a, b], to: o}}}}"
    )

    assert any("is already used by" in line for line in found) is clash


def test_a_system_and_an_adapter_must_exist() -> None:
    text = SITE + "systems: {ris: {adapter: rsi}}\n" + CHANNELS.replace("folder: in", "folder: in, system: rsi")

    found = findings(text, adapters__ris="title: RIS")

    assert found == [
        "2:17: error: there is no adapter `rsi`; fix: did you mean `ris`?",
        "5:38: error: there is no system `rsi`; fix: did you mean `ris`?",
    ]


def test_an_adapter_lies_under_what_the_site_says() -> None:
    adapter = "title: A\nsettings: {ae_title: PROFILE, room: R1}\nchannels: {file-in: {poll: 9s, on_error: reject}}"
    text = SITE + "systems: {ris: {adapter: a, room: R2}}\n"

    text += CHANNELS.replace("folder: in", "folder: in, poll: 2s, system: ris")
    config = read(text, adapters__a=adapter).config

    assert config.systems["ris"].values == {"adapter": "a", "ae_title": "PROFILE", "room": "R2"}
    inbox = config.channels["inbox"]
    assert (inbox.poll, inbox.on_error) == (2.0, "reject")  # type: ignore[attr-defined]


def test_a_mistake_in_an_adapter_is_told_in_its_own_file() -> None:
    told = [str(one) for one in read(SITE + CHANNELS, adapters__a="titel: A\ntitle: B").findings]

    assert told == ["adapters/a.yaml:1:1: error: unknown setting `titel`; fix: did you mean `title`?"]


def test_the_environment_fills_in_what_the_file_names() -> None:
    text = SITE + "web: {listen: '${HOST:-127.0.0.1}:${PORT}', token: '${TOKEN}'}\nlog: {level: '$${no}'}"

    loaded = read(text, {"PORT": "9000", "TOKEN": "s3cret"})
    web = loaded.checked and loaded.checked.web

    assert web and web.listen == HostPort("127.0.0.1", 9000)
    assert web.token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(loaded.checked)
    assert "cannot be `${no}`" in str(loaded.findings[0])


def test_a_variable_that_is_not_set_is_told() -> None:
    assert findings(SITE + CHANNELS + "data: ${RADBRIDGE_NOWHERE}") == [
        "8:1: error: the environment variable RADBRIDGE_NOWHERE is not set; "
        "fix: set it, or write ${RADBRIDGE_NOWHERE:-default}"
    ]


def test_the_process_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADBRIDGE_DATABASE_URL", "postgresql://radbridge@db/radbridge")
    monkeypatch.setenv("RADBRIDGE_BROKER_URL", "amqp://broker")
    monkeypatch.setenv("RADBRIDGE_DATA", "/data")
    monkeypatch.setenv("RADBRIDGE_WEB_LISTEN", "0.0.0.0:80")
    monkeypatch.setenv("RADBRIDGE_TOKEN", "s3cret")

    config = from_files({"config/b.yaml": SITE + CHANNELS + "web: {listen: 127.0.0.1:1}\nstore: {url: ''}"}).config

    assert config.store.url == "postgresql+psycopg://radbridge@db/radbridge"
    assert config.broker.url == "amqp://broker"
    assert config.data == Path("/data")
    assert config.web.listen == HostPort("0.0.0.0", 80)
    assert config.web.token.get_secret_value() == "s3cret"


def test_a_wrong_process_environment_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADBRIDGE_DATABASE_URL", "mysql://db")
    monkeypatch.setenv("RADBRIDGE_WEB_LISTEN", "8080")

    told = [str(one) for one in from_files({"config/b.yaml": SITE + CHANNELS}).findings]

    assert told[0].startswith("RADBRIDGE_DATABASE_URL: error: cannot be used; fix: write postgresql://")
    assert told[1].startswith("RADBRIDGE_WEB_LISTEN: error: cannot be used; fix: write an address as host:port")


@pytest.mark.parametrize("section", ["site", "systems", "channels", "routes", "store", "web", "log", "mappings"])
@pytest.mark.parametrize("value", ["3", "[1, [2]]", "{a: [1], b: {c: 2}}", "{1: {}}", "{a: {type: [x], adapter: {}}}"])
def test_nonsense_in_any_section_is_findings_never_a_crash(section: str, value: str) -> None:
    others = "".join(line + "\n" for line in (SITE + CHANNELS).splitlines() if not line.startswith(section + ":"))
    loaded = read(f"{section}: {value}\n{others if section not in ('channels', 'routes') else SITE}")

    with pytest.raises(SettingsError) as caught:
        _ = loaded.config

    assert all(finding.line for finding in caught.value.findings)


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b", "a: [", "site:"])
def test_a_file_that_says_nothing_usable_has_findings(text: str) -> None:
    loaded = read(text)

    assert loaded.findings
    with pytest.raises(SettingsError):
        _ = loaded.config


def test_files_are_read_from_disk_and_named_alike_everywhere(tmp_path: Path) -> None:
    for name, text in {
        "etc/site.yaml": SITE + CHANNELS.replace("to: outbox", "to: [{outbox: sub/change}]") + "mappings: ../maps",
        "maps/sub/change.yaml": "messages: [ADT]",
        "maps/sub/change.cases.yaml": "[]",
        "maps/sub/samples/a.hl7": "MSH",
        "maps/tables/rooms.csv": "\ufeffa,b\n",
        "maps/.hidden.yaml": "x",
        "maps/notes.txt": "x",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    loaded = load(tmp_path / "etc/site.yaml", overrides=NOTHING_SET, environ={})

    assert loaded.findings == ()
    assert sorted(loaded.files) == [
        "config/site.yaml",
        "mappings/sub/change.cases.yaml",
        "mappings/sub/change.yaml",
        "mappings/tables/rooms.csv",
    ]
    assert loaded.mapping_files["tables/rooms.csv"] == "a,b\n"
    assert from_files(loaded.files, overrides=NOTHING_SET).revision == loaded.revision


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "mappings/tables").mkdir(parents=True)
    (tmp_path / "mappings/tables/rooms.csv").write_bytes(b"a,b\nc,\xe9\n")

    told = [str(one) for one in load(tmp_path / "config/bridge.yaml", overrides=NOTHING_SET).findings]

    assert "cannot be read: No such file or directory" in told[0]
    assert told[1].startswith("mappings/tables/rooms.csv:2:3: error: this character is not UTF-8")


def test_a_revision_names_its_content() -> None:
    one, same = read(SITE + CHANNELS), read(SITE + CHANNELS)
    other, moved = read(SITE + CHANNELS + "# more"), read(SITE + CHANNELS, mappings__a="")

    assert one.revision == same.revision
    assert len({one.revision, other.revision, moved.revision}) == 3
    assert len(one.revision) == 12
