"""The XML of a channel exported from Mirth Connect or Open Integration Engine, as far as the import looks at it.

Read without DTD, entities or network (defusedxml). Steps and rules are those of version 3.5 and later: elements called
by their Java class below ``transformer/elements`` and ``filter/elements``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from bridge.errors import CodecError

_SCRIPTS = {
    "preprocessingScript": "return message;",
    "postprocessingScript": "return;",
    "deployScript": "return;",
    "undeployScript": "return;",
}
"""What each of a channel's own scripts ends with when nobody wrote one."""


@dataclass(frozen=True, slots=True)
class Part:
    """A rule or step: the last word of its class, and its settings."""

    kind: str
    element: Element

    @property
    def name(self) -> str:
        return self.text("name") or f"{self.kind} {self.text('sequenceNumber')}".strip()

    @property
    def enabled(self) -> bool:
        return self.text("enabled") != "false"

    def text(self, path: str) -> str:
        return text(self.element, path)

    def texts(self, path: str) -> list[str]:
        return [(one.text or "").strip() for one in self.element.findall(path)]

    def has(self, path: str) -> bool:
        """Whether there is something inside."""
        found = self.element.find(path)
        return found is not None and (len(found) > 0 or bool((found.text or "").strip()))


@dataclass(frozen=True, slots=True)
class Connector:
    """The source or a destination."""

    element: Element
    default_name: str

    @property
    def name(self) -> str:
        name = self.text("name")
        return self.default_name if name in ("", "sourceConnector") else name

    @property
    def kind(self) -> str:
        """``TcpReceiver``, ``FileDispatcher``...: the class of its properties."""
        properties = self.element.find("properties")
        found = "" if properties is None else properties.get("class", "")
        return found.rpartition(".")[2].removesuffix("Properties")

    @property
    def enabled(self) -> bool:
        return self.text("enabled") != "false"

    def text(self, path: str) -> str:
        return text(self.element, path)

    def setting(self, path: str) -> str:
        return text(self.element, f"properties/{path}")

    def rules(self) -> list[Part]:
        return list(_parts(self.element.find("filter")))

    def steps(self, transformer: str = "transformer") -> list[Part]:
        return list(_parts(self.element.find(transformer)))


@dataclass(frozen=True, slots=True)
class Export:
    """One exported channel."""

    name: str
    source: Connector
    destinations: tuple[Connector, ...]
    scripts: tuple[str, ...]
    """Names of the channel's own scripts that somebody wrote."""


def read_export(data: bytes) -> Export:
    """The channel in an export. Raises CodecError for what is none."""
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise CodecError("not the XML of a channel", fix=f"export the channel anew ({type(error).__name__})") from None
    channel = root if root.tag == "channel" else root.find(".//channel")
    source = None if channel is None else channel.find("sourceConnector")
    if channel is None or source is None:
        raise CodecError("there is no channel in it", fix="export one channel as XML")
    found = channel.findall("destinationConnectors/connector")
    destinations = tuple(Connector(one, f"destination {number}") for number, one in enumerate(found, 1))
    scripts = tuple(name for name, end in _SCRIPTS.items() if _written(text(channel, name), end))
    return Export(text(channel, "name") or "channel", Connector(source, "source"), destinations, scripts)


def text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _written(script: str, end: str) -> bool:
    lines = [line.strip() for line in script.splitlines() if line.strip() and not line.strip().startswith("//")]
    return bool(lines) and lines != [end]


def _parts(parent: Element | None) -> Iterator[Part]:
    elements = None if parent is None else parent.find("elements")
    for one in () if elements is None else elements:
        yield Part(one.tag.rpartition(".")[2], one)
    for old in () if parent is None else (*parent.findall("steps/*"), *parent.findall("rules/*")):
        yield Part("older than version 3.5", old)
