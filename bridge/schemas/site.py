"""Schemas of the site file and of adapter profiles."""

from __future__ import annotations

import sys

from bridge.ports import channel_type, channel_type_names
from bridge.schemas.conditions import CONDITION, condition_definitions
from bridge.schemas.parts import Json, block, chosen, described, has, of_model, one_or_list, ref, said, text
from bridge.settings import _BLOCKS, _ROUTE
from bridge.settings.model import Adapter, Ask, Folders, System

NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"

_ROUTE_WORDS: Json = {
    "from": one_or_list(text(), "The inbound channel that messages come from, or a list of them."),
    "when": said("Which messages: all entries must hold. Without it, every message.", CONDITION),
    "to": said("The channels that get them, each as it is or with the mapping on the way.", ref("targets")),
    "ask": said("In place of `to`: the message is a question, and this channel's destination answers.", ref("target")),
    "answer": text("The mapping of the answer on its way back; without it the answer is passed on unchanged."),
}


def site_schema() -> Json:
    definitions: Json = condition_definitions()
    blocks = {name: of_model(model, definitions) for name, model in _BLOCKS.items()}
    folders = of_model(Folders, definitions)["properties"]
    ask = of_model(Ask, definitions)["properties"]
    target: Json = {"type": "object", "additionalProperties": text("The mapping on the way there.")}
    definitions["target"] = {"anyOf": [text("A channel; the message is passed on as it came."), target]}
    definitions["targets"] = one_or_list(ref("target"))
    definitions["channel"] = _channel(definitions)
    definitions["system"] = of_model(System, definitions)
    route = block(_ROUTE, {**_ROUTE_WORDS, "timeout": ask["timeout"]}, "Which messages go where.", ["from"])
    named = {"systems": ref("system"), "channels": ref("channel"), "routes": route}
    about = {
        "systems": "The systems at the site, each with its adapter profile.",
        "channels": "The ends that listen and the ends that are called, by name.",
        "routes": "What goes where: from a channel, when it is such a message, to these channels.",
    }
    for name, item in named.items():
        kept: Json = {"additionalProperties": False, "patternProperties": {NAME: item}}
        blocks[name] = {"type": "object", "description": about[name], **kept}
    words = {**blocks, **folders}
    return {**block(words, words, needs=["site"]), "definitions": definitions}


def adapter_schema() -> Json:
    definitions: Json = {}
    made = of_model(Adapter, definitions)
    types = {name: _settings(name, definitions) for name in channel_type_names()}
    made["properties"]["channels"] |= {"properties": types, "additionalProperties": False}
    return {**made, "definitions": definitions}


def _settings(name: str, definitions: Json) -> Json:
    """What may be said of a channel of one type. Nothing but the type is needed: an adapter may say the rest."""
    made = of_model(channel_type(name).settings, definitions)
    made.pop("required", None)
    made["properties"]["type"] = {"const": name}
    return made


def _channel(definitions: Json) -> Json:
    names = channel_type_names()
    for name in names:
        definitions[f"channel {name}"] = _settings(name, definitions)
    kinds = [(has("type", name), ref(f"channel {name}")) for name in names]
    properties = {"type": described({name: _told(name) for name in names})}
    return {"type": "object", "required": ["type"], "properties": properties, **chosen(kinds, {})}


def _told(name: str) -> str:
    """What a kind of channel is: the first sentence of the file that it is in."""
    kind = channel_type(name)
    about = sys.modules[kind.settings.__module__].__doc__ or name
    way = {"in": "Inbound", "out": "Outbound", "both": "Inbound and outbound"}[kind.direction]
    return f"{way}. " + " ".join(about.split("\n\n")[0].replace("``", "`").split())
