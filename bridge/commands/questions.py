"""What ``new system`` asks a person, and what it takes for granted where nobody is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import typer

from bridge.commands.desk import needs
from bridge.errors import Finding
from bridge.ports import ChannelSettings
from bridge.scaffold.kinds import KINDS, kinds_of, language, mapping_for
from bridge.scaffold.system import ADDRESS, NewSystem
from bridge.settings import Loaded
from bridge.settings.model import Adapter
from bridge.settings.roles import receives, sends
from bridge.settings.validation import read
from bridge.yamlfile import parse, suggest

FIRST_PORT = 2575


@dataclass(frozen=True, slots=True)
class Given:
    """What the options say; None: not given."""

    adapter: str | None
    direction: str | None
    channel_type: str
    address: str | None
    kinds: str | None
    ends: str | None


def answer(name: str, given: Given, samples: Mapping[str, bytes], loaded: Loaded, *, quiet: bool) -> NewSystem:
    """All that has to be known: from the options, else from the person, else (``quiet``) what suits the adapter.

    Raises BridgeError for an option that cannot be.
    """
    ask, channels = _Asker(quiet), loaded.config.channels
    adapters = sorted(name[9:-5] for name in loaded.files if name.startswith("adapters/"))
    adapter = ask.one("What kind of system is it", given.adapter, adapters, name if name in adapters else "ris")
    profile = _profile(loaded, adapter)
    usual = "in" if profile.sends or not profile.wants else "out"
    typed = given.channel_type.rpartition("-")[2]
    direction = ask.one("Does it send to us, or we to it", given.direction or typed or None, ["in", "out"], usual)
    needs(direction in ("in", "out"), f"the direction cannot be {direction}", "in or out")
    needs(
        typed in ("", direction), f"a channel of type {given.channel_type} is not {direction}", "leave one of them out"
    )
    channel_type, inbound = given.channel_type or f"mllp-{direction}", direction == "in"
    place = "Where do we listen for it" if inbound else "Where does it listen"
    needs(channel_type in ADDRESS, f"there is no channel type `{channel_type}`", suggest(channel_type, ADDRESS))
    address = ask.text(place, given.address, _free(channels) if channel_type == "mllp-in" else "", "--address")
    found = kinds_of([*_types(samples)]) or kinds_of(profile.sends if inbound else profile.wants) or ["orders"]
    what = "What does it send" if inbound else "What does it want"
    kinds = ask.several(what, given.kinds, list(KINDS), found)
    ends = [end for end, channel in channels.items() if (sends if inbound else receives)(channel)]
    who = "Who gets that" if inbound else "Who sends that"
    chosen = ask.several(who, given.ends, ends, [end for end in ends if _suits(end, kinds, loaded, inbound)])
    return NewSystem(name, adapter, channel_type, address, tuple(kinds), tuple(chosen), samples)


class _Asker:
    """Asks on the terminal, unless ``quiet``. An option that was given is never asked for."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def text(self, question: str, given: str | None, default: str, option: str) -> str:
        if given is not None:
            return given
        needs(default or not self.quiet, f"{option} is missing", f"add {option}")
        return default if self.quiet else str(typer.prompt(question, default=default or None))

    def one(self, question: str, given: str | None, choices: Sequence[str], default: str) -> str:
        return self.text(f"{question} ({', '.join(choices)})", given, default, "")

    def several(self, question: str, given: str | None, choices: Sequence[str], default: Sequence[str]) -> list[str]:
        shown = f"{question} ({', '.join(choices)})"
        if given is None and self.quiet:
            return list(default)
        text = given if given is not None else str(typer.prompt(shown, default=",".join(default)))
        return [part.strip() for part in text.split(",") if part.strip()]


def _profile(loaded: Loaded, adapter: str) -> Adapter:
    """The adapter's profile; an empty one for a name that there is none of, which is told later."""
    name = f"adapters/{adapter}.yaml"
    findings: list[Finding] = []
    file = parse(loaded.files.get(name, ""), name)
    return read(Adapter, file.data, file, (), findings) or Adapter(title=adapter)


def _types(samples: Mapping[str, bytes]) -> list[str]:
    from bridge.codecs.hl7v2 import parse as parse_message

    return ["^".join(parse_message(raw).kind) for raw in samples.values()]


def _free(channels: Mapping[str, ChannelSettings]) -> str:
    """An address of this machine whose port no channel of the site listens on."""
    taken = {getattr(getattr(channel, "listen", None), "port", 0) for channel in channels.values()}
    port = next(port for port in range(FIRST_PORT, FIRST_PORT + 1000) if port not in taken)
    return f"127.0.0.1:{port}"


def _suits(end: str, kinds: Sequence[str], loaded: Loaded, inbound: bool) -> bool:
    """Whether a channel is at the other end if nobody says so: the worklist, and whose system sends such messages.
    Who else gets to see them is for a person to say."""
    channel = loaded.config.channels[end]
    if inbound:
        spoken = language(channel.type)
        return spoken == "worklist" and any(mapping_for(kind, spoken) for kind in kinds if kind in KINDS)
    system = loaded.config.systems.get(channel.system)
    return system is not None and bool(set(kinds) & set(kinds_of(_profile(loaded, system.adapter).sends)))
