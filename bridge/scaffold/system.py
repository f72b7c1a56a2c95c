"""A system and what connects it: its part of the site file, mappings of its own, and cases from its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.codecs.hl7v2 import parse
from bridge.errors import BridgeError
from bridge.scaffold import cases, sitefile
from bridge.scaffold.kinds import KINDS, language, mapping_for
from bridge.settings import Loaded
from bridge.settings.roles import sends
from bridge.yamlfile import suggest

ADDRESS = {
    "mllp-in": "listen",
    "http-in": "listen",
    "file-in": "folder",
    "mllp-out": "connect",
    "fhir-out": "base_url",
    "http-out": "url",
    "file-out": "folder",
}
"""The setting that says where, by channel type."""


@dataclass(frozen=True, slots=True)
class NewSystem:
    """What a person says of it."""

    name: str
    adapter: str
    channel_type: str
    address: str
    """Where it is reached or reaches us: host:port, a URL or a folder, as the channel type has it."""
    kinds: tuple[str, ...]
    """What it sends or wants, of ``KINDS``."""
    ends: tuple[str, ...]
    """Channels or systems at the other end: who gets what it sends, or who sends what it wants."""
    samples: Mapping[str, bytes] = field(default_factory=dict)
    """Messages by file name."""

    @property
    def inbound(self) -> bool:
        return self.channel_type.endswith("-in")

    @property
    def channel(self) -> str:
        return f"{self.name}-{'in' if self.inbound else 'out'}"


@dataclass(slots=True)
class Additions:
    """Files to write, by name (``config/...``, ``mappings/...``), and what a person should know."""

    files: dict[str, str] = field(default_factory=dict)
    samples: dict[str, bytes] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    routes: dict[str, str] = field(default_factory=dict)


def plan(new: NewSystem, loaded: Loaded) -> Additions:
    """What connects ``new`` to the site. Raises BridgeError for what does not fit it, CodecError for a sample."""
    _fits(new, loaded)
    made = Additions()
    for kind in new.kinds:
        _connect(kind, new, loaded, made)
    _samples(new, made)
    _cases(new, loaded, made)
    name = next(name for name in loaded.files if name.startswith("config/"))
    text = sitefile.add(loaded.files[name], "systems", {new.name: f"{new.name}: {{adapter: {new.adapter}}}"})
    text = sitefile.add(text, "channels", {new.channel: _channel(new)})
    made.files[name] = sitefile.add(text, "routes", made.routes) if made.routes else text
    return made


def _fits(new: NewSystem, loaded: Loaded) -> None:
    known = {name.removeprefix("adapters/").removesuffix(".yaml") for name in loaded.files if name[:9] == "adapters/"}
    for value, choices, what in (
        (new.adapter, known, "adapter"),
        *((kind, KINDS, "kind of messages") for kind in new.kinds),
        *((end, [*loaded.config.channels, *loaded.config.systems], "channel or system") for end in new.ends),
    ):
        if value not in choices:
            raise BridgeError(f"there is no {what} `{value}`", fix=suggest(value, choices), kind="settings")
    if any(name.startswith(f"mappings/{new.name}/") for name in loaded.files):
        what = f"there are mappings of `{new.name}` already"
        raise BridgeError(what, at=f"mappings/{new.name}", fix="choose another name", kind="duplicate_key")


def _channel(new: NewSystem) -> str:
    return "\n".join(
        [
            f"{new.channel}:",
            f"  type: {new.channel_type}",
            f"  system: {new.name}",
            f"  {ADDRESS[new.channel_type]}: {new.address}",
        ]
    )


def end_types(loaded: Loaded, name: str) -> list[str]:
    """Types of the channels that can be sent to and that an end stands for: itself, or those of the system."""
    channels = loaded.config.channels
    if name in channels:
        return [channels[name].type]
    return [channel.type for channel in channels.values() if channel.system == name and sends(channel)]


def _connect(kind: str, new: NewSystem, loaded: Loaded, made: Additions) -> None:
    """The route of one kind of messages, and the mappings of its own that it goes through."""
    if new.inbound:
        sources = new.name
        spoken = [(end, language(one)) for end in new.ends for one in end_types(loaded, end)]
    else:
        sources = f"[{', '.join(new.ends)}]"
        spoken = [(new.name, language(new.channel_type))] if new.ends else []
    targets = []
    for end, to in dict.fromkeys(spoken):
        base = mapping_for(kind, to)
        if base or (base is not None and not new.inbound):
            targets.append(f"{{{end}: {_own(base, kind, new, made)}}}")
        elif base is not None:
            targets.append(end)
    if not targets:
        made.remarks.append(f"{kind}: no route yet, for no end was named that has a place for them")
        return
    types = ", ".join(KINDS[kind].messages)
    made.routes[f"{new.name}-{kind}"] = "\n".join(
        [
            f"{new.name}-{kind}:",
            f"  from: {sources}",
            f"  when: {{message: [{types}]}}",
            "  to:",
            *(f"    - {target}" for target in targets),
        ]
    )


def _own(base: str, kind: str, new: NewSystem, made: Additions) -> str:
    """The system's own mapping, and cases of it from the samples; a shipped one but for what a person changes."""
    name = f"{new.name}/{base or kind}"
    if base:
        text = f"# {kind.capitalize()} of {new.name}: as mappings/{base}.yaml, but for the lines here. A line here\n"
        text += f"# replaces the one of the same name there, and `name: ~` takes it away.\nextends: {base}\n"
    else:
        types = ", ".join(KINDS[kind].messages)
        text = f"# {kind.capitalize()} for {new.name}: as they come, but for the edits here.\n"
        text += f"target: hl7v2\nmessages: [{types}]\nedits: []\n"
    made.files[f"mappings/{name}.yaml"] = text
    return name


def _samples(new: NewSystem, made: Additions) -> None:
    """Keep the samples, each beside the mapping that it is for; one that nothing is for is told."""
    for file, raw in new.samples.items():
        code, event = parse(raw).kind
        fitting = [kind for kind in new.kinds if f"{code}^{event}" in KINDS[kind].messages]
        if not fitting:
            made.remarks.append(f"{file} is {code}^{event}, which this system is not said to send or want: left out")
            continue
        made.samples[f"mappings/{new.name}/samples/{file}"] = raw


def _cases(new: NewSystem, loaded: Loaded, made: Additions) -> None:
    """Cases of the new mappings for each sample that they are made for."""
    site = loaded.config.site
    facts: dict[str, Any] = site.model_dump(mode="json", exclude_unset=True)
    for name in list(made.files):
        base = name.removeprefix(f"mappings/{new.name}/").removesuffix(".yaml")
        kind = next(kind for kind in new.kinds if base in (kind, *KINDS[kind].mappings.values()))
        found = []
        for path, raw in made.samples.items():
            code, event = parse(raw).kind
            expected = cases.identified(raw, "" if base == kind else base, site.patient_id_issuer)
            if f"{code}^{event}" in KINDS[kind].messages and expected:
                found.append(cases.case_text(path.removeprefix("mappings/"), facts, expected))
        if found:
            made.files[name.replace(".yaml", ".cases.yaml")] = "\n".join(found)
