"""What a channel must be, and where channels are found.

A channel file offers a :class:`ChannelType`: its name, a pydantic settings model and a constructor. It is found
through the entry point group ``radbridge.channels`` (name = channel type, value = ``module:OBJECT``), ours and
third parties' alike. Channels receive callables; they never import the store or the engine.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from bridge.errors import BridgeError
from bridge.message import Delivery, Message
from bridge.state import MemoryState, State

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", str(value).strip())
    if not match:
        raise ValueError("write a duration as 500ms, 2s, 5m, 1h or 7d")
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {"type": ["string", "number"], "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$|\$\{", "examples": ["5s", "1h"]}
    ),
]
"""Seconds; written ``500ms``, ``2s``, ``5m``, ``1h``, ``7d``."""


class HostPort(NamedTuple):
    """A network address; ``port`` 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host_port(value: Any) -> HostPort:
    if isinstance(value, HostPort):
        return value
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]]+)):(\d{1,5})", str(value).strip())
    if not match or int(match[3]) > 65535:
        raise ValueError("write an address as host:port, for example 127.0.0.1:2575")
    return HostPort(match[1] or match[2], int(match[3]))


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""A list of names; one alone needs no brackets."""

Address = Annotated[
    HostPort,
    BeforeValidator(_host_port),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\S+:\d{1,5}$|\$\{", "examples": ["127.0.0.1:2575"]}),
]
"""A :class:`HostPort`; written ``127.0.0.1:2575``, ``pacs.example:2575``, ``[::1]:2575``."""


def _beside_the_site_file(path: Path, info: ValidationInfo) -> Path:
    return info.context["folder"] / path if info.context else path


LocalPath = Annotated[Path, AfterValidator(_beside_the_site_file), WithJsonSchema({"type": "string"})]
"""A file or folder on this machine; a relative one starts from the site file's folder."""


class RetryPolicy(BaseModel):
    """How a destination is tried again: exponential from ``first`` to ``max``, with jitter, ``attempts`` in all."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    first: Duration = 1.0
    """Pause before the second attempt."""
    max: Duration = 300.0
    """Longest pause between two attempts."""
    attempts: int = Field(default=10, ge=1, le=1000)
    """Attempts in all, before the delivery is dead."""
    repeats: int = Field(default=5, ge=0, le=1000)
    """Of these, how often it is sent again though the destination may have it (no answer came), each time eight times
    as long after the one before; then it is dead. 0: never twice."""


class ChannelSettings(BaseModel):
    """What every channel's settings model extends. A field's docstring is its description for people."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, use_attribute_docstrings=True)
    type: str
    """The kind of channel: one of the installed channel types."""
    system: str = ""
    """The system at the other end: one of `systems`."""


class SourceSettings(ChannelSettings):
    """Policies of an inbound channel; the engine applies them, the channel does not."""

    format: Literal["hl7v2", "bytes", "dicom", "fhir"] = "hl7v2"
    """What arrives: HL7 v2 messages, bytes of any kind that are only stored and passed on, events of performed
    procedure steps as DICOM files, or FHIR resources and Bundles as JSON."""
    validation: Literal["off", "warn", "strict"] = Field(default="off", alias="validate")
    """What follows from faults in a message, by HL7's structures, cardinalities and data types (hl7apy) and by
    `profile`: ``strict`` refuses it and tells the sender all of them, ``warn`` keeps them among its warnings."""
    profile: Names = ()
    """Profiles of the mappings folder that say what this sender has to send."""
    structure: bool = True
    """``false``: judged by `profile` alone, without the tens of milliseconds that HL7's structures take."""
    on_error: Literal["park", "reject"] = "park"
    """``reject`` renders every delivery before answering, and answers AE with the location."""
    unrouted: Literal["accept", "reject"] = "accept"
    """How a message that no route wants is answered; it is stored either way."""
    test_messages: Literal["refuse", "accept"] = "refuse"
    """MSH-11 T or D: refused (AR, 202) unless the channel serves a test site."""
    identity: bool = False
    """The system here owns patient identity: what its ADT says of merged, changed and linked identifiers takes effect.
    On other channels ADT is only routed."""
    charset: str = ""
    """Character set of messages that declare none (HL7 table 0211); empty: UTF-8, else Windows-1252."""
    application_ack: str = "same"
    """Where the positive application acknowledgement of HL7 enhanced mode (MSH-16) goes: `same` (after the commit
    acknowledgement, on the same connection), the name of an outbound channel, or `none`."""
    order_answers: Literal["ack", "order"] = "ack"
    """How the application answers ORM, OMI and OMG: by a general ACK, or by ORR, ORI and ORG, which say of each order
    whether it was taken."""

    @property
    def one_by_one(self) -> bool:
        """A message may wait in a worker before it is stored: only one at a time keeps the sequence."""
        return (self.validation != "off" and self.structure) or self.on_error == "reject"

    @model_validator(mode="after")
    def _validates_by_something(self) -> SourceSettings:
        if self.profile and "validation" not in self.model_fields_set:
            raise ValueError("add `validate: warn` or `validate: strict` beside `profile`")
        if self.validation != "off" and self.format != "hl7v2":
            raise ValueError("only hl7v2 is validated: remove `validate`, or change `format`")
        if self.validation != "off" and not self.structure and not self.profile:
            raise ValueError("`structure: false` leaves nothing to validate by: add `profile`")
        return self


class SinkSettings(ChannelSettings):
    """Policies of an outbound channel; the engine applies them, the channel does not."""

    takes: ClassVar[str] = ""
    """The one format that its destination understands: hl7v2, fhir or worklist; empty: whatever comes."""
    lane: Literal["destination", "patient", "order"] = "destination"
    """What stays in sequence: everything to this destination, or what concerns the same patient or order."""
    retry: RetryPolicy = RetryPolicy()
    """How a delivery is tried again."""
    on_dead: Literal["park", "pass"] = "park"
    """``park``: a dead delivery holds its lane key until a person acts; ``pass``: the next ones go on."""
    repeat: int = Field(default=64, ge=1, le=10_000)
    """At most so many last-sent deliveries may be sent again after a crash."""
    parallel: int = Field(default=1, ge=1, le=64)
    """Deliveries of different lane keys under way at once."""


class AnsweringSettings(SinkSettings):
    """Of an outbound channel whose destination answers in messages of its own: a route may `ask` it, and what it
    answers to deliveries goes where a route leads that names the channel in `from`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the destination said, short and without patient content: ``AA``, ``200 OK``, ``applied``."""

    summary: str
    body: bytes = b""


Apply = Callable[[Any, Message], Answer]
"""Writes a projection in the transaction that accepts a message: ``apply(tx, message)``, in the store's writer thread;
``tx`` is its SQLAlchemy Connection. The answer's body is the reply's. Raises Refused: the message is stored as refused,
and nothing else of it remains. May run more than once; each former run was rolled back."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message as a source read it off its transport."""

    data: bytes
    peer: str
    """Who sent it, as the transport knows it: ``127.0.0.1:53412``, a file name, an AE title."""
    apply: Apply | None = None
    """What it does to the channel's own projection before it is answered."""
    warnings: tuple[str, ...] = ()
    """What the source found in it, to be kept with the message."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The engine's answer. ``ok`` means committed (law 1); a source turns it into its transport's own answer."""

    ok: bool
    message: str
    """Id of the stored message; empty when nothing could be stored."""
    body: bytes = b""
    """Answer in the message's own format (an HL7 ACK), ready to send; empty for formats without one, and when the
    sender wants none. Several are separated by FS (0x1C)."""
    error: BridgeError | None = None
    duplicate: bool = False

    @property
    def answers(self) -> list[bytes]:
        """The answers in ``body``, in the sequence in which they go out."""
        return self.body.split(b"\x1c") if self.body else []


Receive = Callable[[Inbound], Awaitable[Reply]]
"""Hand a message to the engine; returns when it is committed or refused. Never raises for bad content."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a sink is asked to bring to its destination."""

    data: bytes
    delivery: Delivery
    control_id: str = ""
    """Control id (MSH-10) of the outgoing message, to match the answer with."""
    format: str = "hl7v2"
    charset: str = ""


class Source(Protocol):
    """An inbound end. ``start`` binds and returns; errors in binding are raised from it as BridgeError."""

    async def start(self, receive: Receive) -> None: ...
    async def stop(self) -> None: ...
    @property
    def endpoint(self) -> str:
        """Where it listens, for people: ``mllp://127.0.0.1:2575``."""
        ...


class Sink(Protocol):
    """An outbound end to the world outside.

    ``send`` returns when the destination has taken the message; raises Unreachable, Uncertain, Temporary or
    Permanent otherwise. It is never called for two deliveries of one lane key at a time.
    """

    async def send(self, outgoing: Outgoing) -> Answer: ...
    async def close(self) -> None: ...
    @property
    def endpoint(self) -> str: ...


@runtime_checkable
class Asking(Protocol):
    """A sink whose destination can be asked; its settings are AnsweringSettings."""

    async def ask(self, outgoing: Outgoing, timeout: float) -> Answer:
        """The answer of the destination's application, whatever it says, with its body.

        Questions come side by side, and never share a connection with deliveries. Raises Unreachable or Uncertain
        when no answer came within ``timeout`` seconds in all; one that comes later is nobody's.
        """
        ...


@runtime_checkable
class Projection(Protocol):
    """A sink into our own database: applied in the same transaction as the delivery's finish."""

    def apply(self, tx: Any, outgoing: Outgoing) -> Answer:
        """Runs in the store's writer thread; ``tx`` is its SQLAlchemy Connection. Applies only what is newer
        (``outgoing.delivery.origin``) than what is there. Raises Permanent for what can never be applied."""
        ...


@runtime_checkable
class Effective(Protocol):
    """A source whose messages change its own projection."""

    def effect(self, data: bytes) -> Apply:
        """What a message of these bytes does there, where it comes another way than over the source's transport."""
        ...


@runtime_checkable
class Mounted(Protocol):
    """A source that the node's web server may serve under a path of its own."""

    mount: str
    """The path, ``/fhir``; empty where it listens by itself."""

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI; ``scope["root_path"]`` ends with the path."""
        ...


@runtime_checkable
class Pinging(Protocol):
    """An end that can ask another system whether it is there."""

    def ping(self, called: str, end: Mapping[str, Any]) -> float:
        """Milliseconds until the system answered; ``called`` is its AE title, ``end`` its settings under `dicom`.

        Blocks. Raises Unreachable, or BridgeError with the reason why it does not let us in."""
        ...


Work = Callable[..., Awaitable[Any]]
"""``work(function, *arguments)``: the result of a pure function of a module, computed in a process of its own, so that
nobody's answer waits for it. Arguments, result and errors are pickled."""


async def _in_this_process(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@dataclass(frozen=True, slots=True)
class Services:
    """What the engine hands a channel besides its settings."""

    name: str
    """The channel's name in the configuration."""
    site: Any
    """The site's settings: name, timezone."""
    worklist: Any = None
    """The worklist projection: ``apply(tx, outgoing)`` and ``find(query)``."""
    fhir: Any = None
    """The FHIR projection: ``bridge.store.fhir.FhirStore``."""
    subscriptions: Any = None
    """Who wants to know of its changes: ``bridge.store.fhir_subscriptions.Subscriptions``."""
    trail: Any = None
    """The audit trail, for accesses: ``bridge.store.audit.Trail``."""
    system: Mapping[str, Any] = field(default_factory=dict)
    """The system's settings merged over its adapter profile; empty when the channel names no system."""
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The settings of every system, by its name."""
    answers: Receive | None = None
    """Takes answers of the destination that are messages of their own; None where no route wants them."""
    state: State = field(default_factory=MemoryState)
    """What the channel keeps beyond a restart."""
    work: Work = _in_this_process
    """For what burns CPU."""


@dataclass(frozen=True, slots=True)
class ChannelType:
    """A kind of channel: what the registry holds."""

    name: str
    direction: Literal["in", "out", "both"]
    settings: type[ChannelSettings]
    build: Callable[[Any, Services], Any]
    """``build(settings, services)`` -> Source, Sink, or an object that is a Source and a Projection (``both``)."""
    of_systems: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Blocks of settings that a system may hold for channels of this type: {worklist: ...}."""
    role: Literal["receive", "dicom", "web"] = "receive"
    """The role of the nodes on which it receives."""


@cache
def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="radbridge.channels")}


def channel_type_names() -> list[str]:
    """Names of every installed channel type, sorted."""
    return sorted(_registered())


def channel_type(name: str) -> ChannelType:
    """The channel type called ``name``, loading only its module. Raises KeyError if none is installed."""
    loaded: ChannelType = _registered()[name].load()
    return loaded
