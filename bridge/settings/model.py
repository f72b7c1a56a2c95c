"""What a site file can say, as types. ``bridge.settings`` reads one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NaiveDatetime,
    SecretStr,
    SerializeAsAny,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bridge.ports import Address, ChannelSettings, Duration, HostPort, LocalPath, Names
from bridge.yamlfile import suggest


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _timezone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = suggest(name, available_timezones())
        raise ValueError(near or "write a zone of the IANA list, such as Europe/Paris") from None


def _store_url(url: str) -> str:
    if url and not url.startswith(("postgresql://", "postgresql+psycopg://", "sqlite:///")):
        raise ValueError("write postgresql://user@host/database, sqlite:///file, or nothing for the embedded database")
    return re.sub(r"^postgresql://", "postgresql+psycopg://", url)


StoreUrl = Annotated[str, AfterValidator(_store_url)]


class Site(_Block):
    """Who runs this engine; mappings see it as ``context["site"]``."""

    name: str = Field(min_length=1)
    """Short name of the hospital, practice or group."""
    timezone: Annotated[str, AfterValidator(_timezone)]
    """Zone of the site's clocks, from the IANA list, such as Europe/Paris."""
    patient_id_issuer: str = ""
    """Assigning authority (CX-4) of the patient identifier to use; empty: the first one in the message."""
    order_issuer: str = ""
    """Assigning authority of order numbers and accession numbers that carry none."""
    name_type: Names = ()
    """Name types (XPN-7, HL7 table 0200) in order of preference, such as [D, L]; empty: the first in the message."""
    authorities: dict[str, str] = {}
    """Identifier system (a URI, or urn:oid:...) of each assigning authority, for FHIR."""


class Transfer(_Block):
    """A planned change of a station: from a moment on it has another AE title, or is at another site."""

    at: NaiveDatetime
    """When, by the site's clock, such as 2026-12-01T06:00."""
    ae_title: str = Field(default="", max_length=16, pattern=r"^[^\\\x00-\x1f]*$")
    """Its AE title from then on; empty: as before. Steps scheduled under any other title of its are found under it."""
    site: str = ""
    """The institution (InstitutionName) that its steps carry from then on; empty: as before."""

    @model_validator(mode="after")
    def _changes_something(self) -> Transfer:
        if not (self.ae_title or self.site):
            raise ValueError("write what changes: `ae_title:`, `site:` or both")
        return self


class System(BaseModel):
    """One system at the site, its adapter profile's settings merged underneath; further settings are free."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    adapter: str = ""
    """The profile of this kind of system: the name of a file in the adapters folder."""
    ae_title: str = Field(default="", max_length=16, pattern=r"^[^\\\x00-\x1f]*$")
    """The system's DICOM application entity title."""
    transfers: tuple[Transfer, ...] = ()
    """Planned changes of a modality's AE title or site, the earliest first."""

    @property
    def values(self) -> dict[str, Any]:
        """All settings, as channels and mappings see them."""
        return self.model_dump(mode="json", exclude=None if self.transfers else {"transfers"})


class Fact(_Block):
    """One thing that is known of a kind of system, and who says so."""

    about: Literal["identifiers", "acknowledgement", "characters", "limits", "content"]
    """What it is about."""
    fact: str
    """What it does, or wants."""
    source: str
    """Where that stands: a standard with its section, or a document with its address."""


class Adapter(_Block):
    """A profile of one kind of system: what it speaks, its quirks, and where that knowledge comes from."""

    title: str
    """What kind of system this is, for people."""
    speaks: tuple[str, ...] = ()
    """Languages and roles, such as hl7v2, fhir, dicom-worklist."""
    sources: tuple[str, ...] = ()
    """Where each fact in this profile comes from."""
    sends: tuple[str, ...] = ()
    """HL7 messages that it usually sends."""
    wants: tuple[str, ...] = ()
    """HL7 messages that it usually wants."""
    facts: tuple[Fact, ...] = ()
    """What is known of it besides, for people."""
    settings: dict[str, Any] = {}
    """Defaults of the system's own settings."""
    channels: dict[str, dict[str, Any]] = {}
    """Defaults of the settings of this system's channels, by channel type."""


class Target(NamedTuple):
    """Where a route leads: a channel, and the mapping on the way (empty: unchanged)."""

    destination: str
    mapping: str = ""


def _target(value: Any) -> Any:
    parts = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value,)
    if not all(isinstance(part, str) and part for part in parts):
        raise ValueError("name a channel, or a channel and its mapping, for example `ask: his-pdq`")
    return Target(*parts)


class Ask(_Block):
    """A route's question: who is asked, through which mapping each way, and how long the asker is to wait."""

    to: Annotated[Target, BeforeValidator(_target)] = Field(alias="ask")
    """The outbound channel whose destination can answer, or the channel and the mapping on the way there."""
    answer: str = ""
    """The mapping of the answer on its way back; empty: unchanged."""
    timeout: Duration = Field(default=5.0, gt=0, le=300)
    """How long the answer may take before the asker is told that there is none."""


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    sources: tuple[str, ...]
    to: tuple[Target, ...]
    when: Any = None
    """The condition as written; ``bridge.mapping.compile_condition`` understands it. None: every message."""
    ask: Ask | None = None
    """In place of ``to``: the message is a question."""


class Store(_Block):
    url: StoreUrl = Field(default="", repr=False)
    """Database: postgresql://user@host/database; empty: the embedded one in the data folder."""


class Broker(_Block):
    url: str = Field(default="", repr=False, pattern=r"^(|(amqps?|memory)://.*)$")
    """Broker that wakes the other nodes: amqp://user@host; empty: none, one node."""


class Web(_Block):
    listen: Address = HostPort("127.0.0.1", 8080)
    """Where console, API, FHIR and metrics listen."""
    token: SecretStr = SecretStr("")
    """Token of the API; empty: one is made on the first start and printed once."""


class Receipts(_Block):
    window: Duration = 7 * 86400.0
    """How long a message that is sent again is recognised."""


class Retention(_Block):
    days: int = Field(default=90, ge=1, le=36500)
    """How long finished messages are kept."""


class Log(_Block):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events to show."""
    format: Literal["console", "json"] = "console"
    """For a person's eyes, or one JSON object a line for a log system."""


class Folders(_Block):
    model_config = ConfigDict(validate_default=True)
    data: LocalPath = Path("../var")
    """Folder for the embedded database and the API token, relative to the site file."""
    mappings: LocalPath = Path("../mappings")
    """Folder of the mappings, relative to the site file."""
    adapters: LocalPath = Path("../adapters")
    """Folder of the adapter profiles, relative to the site file."""


class Config(Folders):
    """Everything that ``config/bridge.yaml`` says, checked; the folders are no longer relative to it."""

    site: Site
    systems: dict[str, System] = {}
    channels: dict[str, SerializeAsAny[ChannelSettings]] = {}
    routes: dict[str, Route] = {}
    store: Store = Store()
    broker: Broker = Broker()
    web: Web = Web()
    receipts: Receipts = Receipts()
    retention: Retention = Retention()
    log: Log = Log()


class Overrides(BaseSettings):
    """What the process environment (``RADBRIDGE_...``) sets over any site file; empty means not set."""

    model_config = SettingsConfigDict(env_prefix="RADBRIDGE_", env_ignore_empty=True, extra="ignore")
    database_url: StoreUrl = Field(default="", repr=False)
    broker_url: str = Field(default="", repr=False)
    data: str = ""
    web_listen: Annotated[Address, NoDecode] | None = None
    token: SecretStr = SecretStr("")
