"""The settings of a site: one file, and the adapters, mappings and tables beside it, read as one immutable revision."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bridge.errors import Finding, SettingsError
from bridge.ports import ChannelSettings, channel_type, channel_type_names
from bridge.settings.crosscheck import cross_check
from bridge.settings.model import (
    Adapter,
    Ask,
    Broker,
    Config,
    Folders,
    Log,
    Overrides,
    Receipts,
    Retention,
    Route,
    Site,
    Store,
    System,
    Target,
    Web,
)
from bridge.settings.roles import Roles
from bridge.settings.system_blocks import over, with_blocks
from bridge.settings.validation import interpolate, read
from bridge.yamlfile import Path_, YamlFile, parse, suggest

__all__ = ["Config", "Loaded", "Overrides", "Route", "Site", "System", "Target", "from_files", "load", "samples"]

B = TypeVar("B", bound=BaseModel)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_BLOCKS: dict[str, type[BaseModel]] = {
    "site": Site,
    "store": Store,
    "broker": Broker,
    "web": Web,
    "receipts": Receipts,
    "retention": Retention,
    "log": Log,
}
_NAMED = ("systems", "channels", "routes")
_ASK = ("ask", "answer", "timeout")
_ROUTE = ("from", "when", "to", *_ASK)


@dataclass(frozen=True)
class Loaded:
    """A site file and all that belongs to it, as found: ``findings`` lists every problem at once."""

    files: dict[str, str]
    """Text of each file under its own name: ``config/bridge.yaml``, ``mappings/tables/stations.csv``..."""
    findings: tuple[Finding, ...]
    document: YamlFile
    """The site file with the place of each value."""
    checked: Config | None = field(repr=False)
    folder: Path = Path("config")
    """Where the site file lies."""

    @property
    def config(self) -> Config:
        """The settings. Raises SettingsError with all errors if there are any."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        if errors or self.checked is None:
            raise SettingsError(errors)
        return self.checked

    @property
    def revision(self) -> str:
        """Names exactly this content of all files; 12 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, text in sorted(self.files.items()):
            digest.update(f"{len(name)} {len(text)} {name}{text}".encode())
        return digest.hexdigest()[:12]

    @property
    def path(self) -> Path:
        """The site file."""
        name = next((name for name in self.files if name.startswith("config/")), "config/bridge.yaml")
        return self.folder / name.removeprefix("config/")

    @property
    def mapping_files(self) -> dict[str, str]:
        """Mappings, cases and tables by their name inside the mappings folder."""
        return {name.removeprefix("mappings/"): text for name, text in self.files.items() if name[:9] == "mappings/"}


def load(path: Path, *, overrides: Overrides | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the site file at ``path`` and the mappings, tables and adapters that it points to.

    Never raises for what the files say: problems are in ``findings``.
    """
    findings: list[Finding] = []
    files: dict[str, str] = {}
    name = f"config/{path.name}"
    _take(path, name, files, findings)
    document = _document(files.get(name, ""), name, [])
    wanted = interpolate(_pick(document.data, Folders.model_fields), document, [], environ)
    found = read(Folders, wanted, document, (), [], path.parent) or read(Folders, {}, document, (), [], path.parent)
    for kind, endings in (("mappings", (".yaml", ".csv", ".conceptmap.json")), ("adapters", (".yaml",))):
        folder: Path = getattr(found, kind)
        for entry in sorted(folder.rglob("*")):
            inside = entry.relative_to(folder)
            if entry.name.endswith(endings) and entry.is_file() and not any(part[0] in "._" for part in inside.parts):
                _take(entry, f"{kind}/{inside.as_posix()}", files, findings)
    return _assemble(files, path.parent, findings, overrides, environ)


def samples(folder: Path) -> dict[str, bytes]:
    """Every message and snapshot in the mappings folder by its name there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".yaml", ".csv"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def from_files(
    files: Mapping[str, str],
    folder: Path = Path("config"),
    *,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The same from a stored revision's files; ``folder`` is what relative paths in the site file start from."""
    return _assemble(dict(files), folder, [], overrides, environ)


def _take(path: Path, name: str, files: dict[str, str], findings: list[Finding]) -> None:
    try:
        files[name] = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        fix = "name the site file with --config" if name.startswith("config/") else "let this user read it"
        findings.append(Finding(name, 0, 0, f"{path} cannot be read: {error.strerror}", fix))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        findings.append(Finding(name, line, column, "this character is not UTF-8", "save the file as UTF-8"))


def _document(text: str, name: str, findings: list[Finding]) -> YamlFile:
    try:
        document = parse(text, name)
    except SettingsError as error:
        findings.extend(error.findings)
        return YamlFile(name, None)
    if document.data is None or isinstance(document.data, dict):
        return document
    findings.append(document.finding((), "this must be a block of `name: value`"))
    return YamlFile(name, None)


def _pick(data: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data} if isinstance(data, dict) else {}


def _assemble(
    files: dict[str, str],
    folder: Path,
    findings: list[Finding],
    overrides: Overrides | None,
    environ: Mapping[str, str] | None,
) -> Loaded:
    name = next((name for name in files if name.startswith("config/")), "config/bridge.yaml")
    before = len(findings)
    document = _document(files.get(name, ""), name, findings)
    if name not in files or len(findings) > before:
        return Loaded(files, in_sequence(findings), document, None, folder)
    data = interpolate(document.data or {}, document, findings, environ)
    config = _Reader(document, data, files, folder, findings).config(overrides or _overrides(findings))
    return Loaded(files, in_sequence(findings), document, config, folder)


def in_sequence(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the sequence of files and lines."""
    return tuple(sorted(findings, key=lambda finding: (finding.file, finding.line, finding.column)))


def _overrides(findings: list[Finding]) -> Overrides:
    try:
        return Overrides()
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = f"RADBRIDGE_{str(detail['loc'][-1]).upper()}"
            findings.append(Finding(name, 0, 0, "cannot be used", detail["msg"].removeprefix("Value error, ")))
        return Overrides.model_construct()


class _Reader:
    """Reads the sections of one site file; each problem becomes a finding, and the rest is read all the same."""

    def __init__(
        self, file: YamlFile, data: dict[str, Any], files: dict[str, str], folder: Path, findings: list[Finding]
    ) -> None:
        self.file, self.data, self.files, self.folder, self.findings = file, data, files, folder, findings

    def config(self, overrides: Overrides) -> Config:
        """What could be read, defaults for the rest."""
        known = [*_BLOCKS, *_NAMED, *Folders.model_fields]
        for key in self.data:
            if key not in known:
                self._report((key,), f"unknown section `{key}`", suggest(str(key), known))
        if "site" not in self.data:
            self._report((), "`site` is missing", "add `site: {name: ..., timezone: Europe/Paris}`")
        blocks: dict[str, Any] = {"site": Site.model_construct(name="", timezone="UTC")}
        for key, model in _BLOCKS.items():
            block = self._read(model, self.data[key], (key,)) if key in self.data else None
            if block:
                blocks[key] = block
        folders = self._read(Folders, _pick(self.data, Folders.model_fields), ()) or Folders()
        adapters = self._adapters()
        systems = self._systems(adapters)
        channels = self._channels(adapters)
        systems = with_blocks(systems, channels, self.file, self.findings, self.folder)
        roles = Roles(channels, self._section("channels"), self._section("systems"), self.file, self.findings)
        routes = {name: roles.bound(route) for name, route in self._routes().items()}
        config = Config(
            data=Path(overrides.data) if overrides.data else folders.data,
            mappings=folders.mappings,
            adapters=folders.adapters,
            systems=systems,
            channels=channels,
            routes=routes,
            **blocks,
        )
        config = _overridden(config, overrides)
        cross_check(config, self._section("channels"), self.file, self.files, self.findings)
        return config

    def _read(self, model: type[B], data: Any, at: Path_) -> B | None:
        return read(model, data, self.file, at, self.findings, self.folder)

    def _report(self, at: Path_, what: str, fix: str = "", severity: str = "error") -> None:
        self.findings.append(self.file.finding(at, what, fix, severity))

    def _section(self, name: str) -> dict[str, Any]:
        """The named blocks of a section, those with an unusable name left out."""
        data = self.data.get(name) or {}
        if not isinstance(data, dict):
            return {}
        return {key: value for key, value in data.items() if isinstance(key, str) and _NAME.fullmatch(key)}

    def _blocks(self, name: str) -> dict[str, dict[str, Any]]:
        """The same, with a finding for each that is not a block of settings."""
        data = self.data.get(name) or {}
        if not isinstance(data, dict):
            self._report((name,), f"`{name}` must be a block of `name: ...`")
            return {}
        for key in data:
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                self._report((name, key), f"`{key}` cannot be a name", "letters, digits, - and _; 63 at most")
        blocks: dict[str, dict[str, Any]] = {}
        for key, value in self._section(name).items():
            if isinstance(value, dict) or value is None:
                blocks[key] = value or {}
            else:
                self._report((name, key), f"`{key}` must be a block of `name: value`")
        return blocks

    def _adapters(self) -> dict[str, Adapter | None]:
        """Every profile by name; None where the file has problems, which are reported."""
        adapters: dict[str, Adapter | None] = {}
        for name, text in self.files.items():
            if name.startswith("adapters/"):
                before = len(self.findings)
                file = _document(text, name, self.findings)
                usable = len(self.findings) == before
                profile = read(Adapter, file.data, file, (), self.findings) if usable else None
                adapters[name.removeprefix("adapters/").removesuffix(".yaml")] = profile
        return adapters

    def _systems(self, adapters: Mapping[str, Adapter | None]) -> dict[str, System]:
        systems: dict[str, System] = {}
        for name, own in self._blocks("systems").items():
            wanted = str(own.get("adapter") or "")
            profile = adapters.get(wanted)
            if wanted and wanted not in adapters:
                self._report(("systems", name, "adapter"), f"there is no adapter `{wanted}`", suggest(wanted, adapters))
            defaults = profile.settings if profile else {}
            known = [*System.model_fields, *defaults]
            for key in own:
                near = "" if key in known else suggest(str(key), known)
                if near.startswith("did you mean"):
                    self._report(("systems", name, key), f"unusual setting `{key}`", near, "warning")
            system = self._read(System, over(defaults, own), ("systems", name))
            if system:
                systems[name] = system
        return systems

    def _channels(self, adapters: Mapping[str, Adapter | None]) -> dict[str, ChannelSettings]:
        channels: dict[str, ChannelSettings] = {}
        for name, own in self._blocks("channels").items():
            at: Path_ = ("channels", name)
            kind, known = own.get("type"), channel_type_names()
            if kind not in known:
                what = f"there is no channel type `{kind}`" if kind else "`type` is missing"
                self._report((*at, "type"), what, suggest(str(kind or ""), known))
                continue
            try:
                model = channel_type(kind).settings
            except (ImportError, AttributeError) as error:
                self._report((*at, "type"), f"channel type `{kind}` cannot be loaded: {error}", "reinstall it")
                continue
            settings = self._read(model, self._defaults(own, kind, adapters) | own, at)
            if settings:
                channels[name] = settings
        return channels

    def _defaults(self, own: dict[str, Any], kind: str, adapters: Mapping[str, Adapter | None]) -> dict[str, Any]:
        """What the adapter of a channel's system says about channels of this type."""
        system = self._section("systems").get(str(own.get("system")))
        wanted = str(system.get("adapter")) if isinstance(system, dict) else ""
        profile = adapters.get(wanted)
        return dict(profile.channels.get(kind, {})) if profile else {}

    def _routes(self) -> dict[str, Route]:
        routes: dict[str, Route] = {}
        for name, own in self._blocks("routes").items():
            at: Path_ = ("routes", name)
            for key in own:
                if key not in _ROUTE:
                    self._report((*at, key), f"unknown setting `{key}`", suggest(str(key), _ROUTE))
                elif key in _ASK and "ask" not in own:
                    self._report((*at, key), f"`{key}` goes with `ask`", "leave it out, or ask")
                elif key == "to" and "ask" in own:
                    self._report((*at, key), "a route asks, or sends", "write a second route with the same `when`")
            sources = self._names((*at, "from"), own.get("from"))
            ask = self._read(Ask, _pick(own, _ASK), at) if "ask" in own else None
            targets = () if "ask" in own else self._targets((*at, "to"), own.get("to"))
            routes[name] = Route(name, sources, targets, own.get("when"), ask)
        return routes

    def _names(self, at: Path_, value: Any) -> tuple[str, ...]:
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name for name in names):
            self._report(at, "`from` must name a channel, or a list of channels", "for example `from: ris-in`")
            return ()
        return tuple(names)

    def _targets(self, at: Path_, value: Any) -> tuple[Target, ...]:
        targets: list[Target] = []
        entries = value if isinstance(value, list) else [value] if value else []
        if not entries:
            self._report(at, "a route needs a target", "for example `to: [pacs-out]`")
        for index, entry in enumerate(entries):
            if isinstance(entry, str) and entry:
                targets.append(Target(entry))
            elif isinstance(entry, dict) and all(isinstance(part, str) for pair in entry.items() for part in pair):
                targets.extend(Target(destination, mapping) for destination, mapping in entry.items())
            else:
                what = "a target is a channel, or a channel and its mapping"
                self._report((*at, index), what, "for example `- pacs-out` or `- {worklist: order-to-worklist}`")
        return tuple(targets)


def _overridden(config: Config, overrides: Overrides) -> Config:
    web = {
        **({"listen": overrides.web_listen} if overrides.web_listen is not None else {}),
        **({"token": overrides.token} if overrides.token.get_secret_value() else {}),
    }
    return config.model_copy(
        update={
            "store": config.store.model_copy(update={"url": overrides.database_url or config.store.url}),
            "broker": config.broker.model_copy(update={"url": overrides.broker_url or config.broker.url}),
            "web": config.web.model_copy(update=web),
        }
    )
