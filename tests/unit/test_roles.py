"""Routes bind to systems by their role at the site, so that swapping a product is one line."""

from __future__ import annotations

from bridge.settings import Config, Loaded, Overrides, from_files

SITE = """\
site: {name: test-site, timezone: Europe/Paris}
systems:
  ris: {adapter: ris}
  pacs: {adapter: old-pacs}
channels:
  ris-in: {type: mllp-in, system: ris, listen: "127.0.0.1:0"}
  pacs-out: {type: mllp-out, system: pacs, connect: "127.0.0.1:2576"}
routes:
  orders: {from: ris, to: [{pacs: edit}]}
"""
FILES = {
    "adapters/ris.yaml": "title: RIS\n",
    "adapters/old-pacs.yaml": "title: Old\nchannels:\n  mllp-out: {lane: patient, ack_policy: {AR: retry}}\n",
    "adapters/new-pacs.yaml": "title: New\nchannels:\n  mllp-out: {connection: per_message, on_dead: pass}\n",
    "mappings/edit.yaml": "target: hl7v2\nmessages: [ORM]\nedits: []\n",
}


def read(site: str = SITE) -> Loaded:
    return from_files({"config/bridge.yaml": site, **FILES}, overrides=Overrides.model_construct(), environ={})


def config(site: str = SITE) -> Config:
    return read(site).config


def told(site: str) -> list[str]:
    return [str(finding) for finding in read(site).findings]


def test_a_system_in_a_route_is_its_channel() -> None:
    route = config().routes["orders"]

    assert route.sources == ("ris-in",)
    assert route.to == (("pacs-out", "edit"),)
    assert told(SITE) == []


def test_swapping_a_product_is_one_line() -> None:
    old, new = config(), config(SITE.replace("adapter: old-pacs", "adapter: new-pacs"))

    before, after = old.channels["pacs-out"].model_dump(), new.channels["pacs-out"].model_dump()
    assert old.routes == new.routes
    assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {
        "lane": ("patient", "destination"),
        "ack_policy": ({"AR": "retry"}, {}),
        "connection": ("persistent", "per_message"),
        "on_dead": ("park", "pass"),
    }


def test_a_question_goes_to_the_system_that_can_answer() -> None:
    asked = config(SITE.replace("to: [{pacs: edit}]", "ask: pacs")).routes["orders"].ask

    assert asked is not None and asked.to.destination == "pacs-out"


def test_a_channel_goes_before_a_system_of_its_name() -> None:
    site = SITE.replace("pacs-out:", "pacs:")

    assert config(site).routes["orders"].to == (("pacs", "edit"),)


def test_several_channels_that_fit_are_told_with_their_names() -> None:
    second = '  pacs-2: {type: mllp-out, system: pacs, connect: "127.0.0.1:2577"}\n'
    (found, *unused) = told(SITE.replace("routes:\n", f"{second}routes:\n"))[::-1]

    assert found.startswith("config/bridge.yaml:10:") and "several channels" in found and "pacs-out, pacs-2" in found
    assert all("no route uses" in one for one in unused)


def test_a_system_without_a_channel_that_fits_is_told_once() -> None:
    found = told(SITE.replace("from: ris,", "from: pacs,"))

    assert [one for one in found if "`pacs` has no channel for this" in one and "system: pacs" in one]
    assert len([one for one in found if ": error:" in one]) == 1


def test_a_channel_that_cannot_be_read_is_told_once() -> None:
    found = told(SITE.replace('connect: "127.0.0.1:2576"', "connect: nowhere"))

    assert len([one for one in found if ": error:" in one]) == 1
