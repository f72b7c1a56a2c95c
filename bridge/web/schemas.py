"""What the API takes and gives, as types for its OpenAPI document. Times are milliseconds since the epoch."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.errors import BridgeError


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")


class Problem(_Shape):
    """An error: what is wrong, where, and how to mend it."""

    kind: str
    what: str
    at: str = ""
    fix: str = ""

    @classmethod
    def of(cls, error: BridgeError) -> Problem:
        return cls(**error.as_dict())


class Channel(_Shape):
    name: str
    type: str
    system: str
    endpoint: str
    """Where it listens or sends to."""
    state: Literal["listens", "sends", "away", "elsewhere"]
    """``away``: its destination cannot be reached now; ``elsewhere``: not this node's work."""


class Lane(_Shape):
    """A destination that has anything pending or dead."""

    destination: str
    pending: int
    dead: int
    parked_keys: int
    """Lane keys that a dead delivery holds until a person replays or skips it."""
    oldest: int
    """When the oldest pending delivery was made; 0 if none is."""
    head: str
    """The delivery that is first."""
    waits_for: Problem | None
    """Why the first pending delivery that was tried did not arrive."""
    waits_since: int
    next_try: int


class Odd(_Shape):
    """Messages that somebody should look at; counted up to 1000."""

    unrouted: int
    refused: int


class Status(_Shape):
    site: str
    version: str
    revision: str
    node: str
    roles: list[str]
    channels: list[Channel]
    lanes: list[Lane]
    messages: Odd


class MessageSummary(_Shape):
    """A received message without its content."""

    id: str
    received_at: int
    channel: str
    format: str
    peer: str
    type: str
    control_id: str
    sender: str
    charset: str
    test: bool
    status: str
    patient: str
    """The first patient identifier, ``id^issuer``."""
    order_number: str
    accession: str
    size: int
    error: Problem | None = None
    warnings: list[str] | None = None


class MessageQuery(_Shape):
    """Which messages; empty fields do not limit."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    status: Literal["", "routed", "unrouted", "refused", "duplicate"] = ""
    channel: str = ""
    type: str = ""
    control_id: str = ""
    patient: str = ""
    """``id^issuer``, or the id alone: of any issuer."""
    order_number: str = ""
    accession: str = ""
    since: int = 0
    before: str = ""
    """Only older ones than this id."""
    limit: int = Field(default=50, ge=1, le=1000)


class Attempt(_Shape):
    at: int
    number: int
    outcome: str
    error: Problem | None = None


class Delivery(_Shape):
    id: str
    message: str
    route: str
    destination: str
    mapping: str
    """Empty: the message leaves as it came."""
    revision: str
    position: int
    """Place in the destination's sequence."""
    status: str
    attempts: int
    error: Problem | None = None
    suspected: bool
    """An earlier attempt may have reached the destination."""
    cause: str
    """The delivery that this one repeats."""
    created_at: int
    changed_at: int
    finished_at: int | None = None
    retry_at: int | None = None
    answer: str = ""


class OpenDelivery(Delivery):
    """A delivery that has not ended."""

    type: str
    """Type of its message."""


class DeliveryStory(Delivery):
    tries: list[Attempt]
    """Attempts that did not succeed."""


class MessageDetail(MessageSummary):
    """A message with its content and all that became of it."""

    content: str
    """As text; bytes that are no characters of its charset as ``\\xNN``."""
    content_base64: str
    """Exactly the bytes that arrived."""
    deliveries: list[DeliveryStory]

    @classmethod
    def of(cls, found: dict[str, Any]) -> MessageDetail:
        raw: bytes = found["raw"]
        return cls(**{**found, "content": as_text(raw, found["charset"]), "content_base64": b64encode(raw).decode()})


class Replay(_Shape):
    """What to send again: deliveries to where they went, messages to where routes lead now or to ``destinations``."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    deliveries: list[str] = Field(default=[], max_length=1000)
    messages: list[str] = Field(default=[], max_length=1000)
    destinations: list[str] = []
    new_control_id: bool = False
    """Give it a new MSH-10, so that the receiver takes it for another message."""


class Newer(_Shape):
    message: str
    type: str
    delivery: str


class ReplayPreview(_Shape):
    message: str
    type: str
    destination: str
    mapping: str
    replaces: str
    """The dead delivery whose place it takes; empty when it joins the end of its lane."""
    content: str
    content_base64: str
    """Exactly the bytes that would leave."""
    error: Problem | None
    """Why it would die again."""
    later: list[Newer]
    """Newer messages about the same order that the destination got: what stands against it."""


class Replayed(_Shape):
    deliveries: list[str]
    """The new deliveries."""


class Skip(_Shape):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    deliveries: list[str] = Field(min_length=1, max_length=1000)
    reason: str = Field(min_length=1, max_length=1000)
    """Why they need not arrive; kept in the audit trail."""


class Skipped(_Shape):
    skipped: int


class Fetch(_Shape):
    """A modality's having been given a step; times in milliseconds since 1970."""

    ae_title: str
    first_at: int
    last_at: int
    times: int


class Step(_Shape):
    """A scheduled procedure step in the worklist."""

    status: str
    attributes: dict[str, Any]
    """By DICOM keyword."""
    given_to: list[Fetch] = []
    """The modalities that were given it, the first one first."""


class Pong(_Shape):
    """A DICOM system's answer to a C-ECHO."""

    ms: float
    """How long association, verification and release took."""


class Received(_Shape):
    """What the engine made of a message that was handed to a channel."""

    message: str
    """Its id."""
    duplicate: bool
    answer: str
    """The acknowledgement that its sender would have got."""


class NotReceived(Problem):
    message: str = ""
    """The id under which it is kept as refused; empty when nothing could be stored."""
    answer: str = ""


class CheckFinding(_Shape):
    file: str
    line: int
    column: int
    severity: Literal["error", "warning", "hint"]
    what: str
    fix: str


class Checked(_Shape):
    revision: str
    findings: list[CheckFinding]


class Ready(_Shape):
    ready: bool
    reasons: list[Problem]
    """Why it is not."""


class Alive(_Shape):
    alive: Literal[True] = True


def as_text(data: bytes, charset: str = "") -> str:
    """Content as text; what is no character of ``charset`` as ``\\xNN``."""
    try:
        return data.decode(charset or "utf-8", "backslashreplace")
    except LookupError:
        return data.decode("utf-8", "backslashreplace")
