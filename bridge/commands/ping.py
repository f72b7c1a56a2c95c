"""``ping``: is a DICOM system there, and does it let us in?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, needs, site_file
from bridge.errors import NotFound

if TYPE_CHECKING:
    from channels.dicom_echo import Remote

app = typer.Typer()


@app.command(epilog=examples("radbridge ping ct1", "radbridge ping CT1@10.1.2.3:104 --json"))
def ping(
    target: Annotated[str, typer.Argument(metavar="SYSTEM|AE@HOST:PORT", help="Whom to ask.")],
    calling: Annotated[
        str, typer.Option("--as", metavar="AE", help="Our AE title; without it that of the first DICOM channel.")
    ] = "",
    ca: Annotated[Path | None, typer.Option(exists=True, help="Over TLS, trusting this authority (PEM).")] = None,
    certificate: Annotated[Path | None, typer.Option(exists=True, help="Our certificate for TLS (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(exists=True, help="Its key, if in a file of its own (PEM).")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for each answer.")] = 10.0,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Ask a DICOM system whether it is there (C-ECHO).

        A system of the site file needs `dicom: {address: host:port}`. Exit code 5 if nobody answers, 4 if it is there
    and does not let us in.
    """
    from channels.dicom_echo import Remote, echo, remote
    from channels.tls import TlsSettings

    direct = remote(target)
    needs(direct or not (ca or certificate), "--ca and --certificate go with AE@HOST:PORT", "set `dicom: {tls: ...}`")
    if direct:
        tls = TlsSettings(ca=ca, certificate=certificate, key=key) if ca or certificate else None
        called, end = direct[0], Remote(address=direct[1], tls=tls)
        calling = calling or "RADBRIDGE"
    else:
        called, end, ours = _of_site(target, config)
        calling = calling or ours
    took = round(echo(end, called, calling=calling, timeout=timeout), 1)
    where = f"{called}@{end.address}"
    if machine:
        output.emit({"target": where, "calling": calling, "ms": took})
    else:
        output.say(f"{where} answered {calling} in {took} ms.")


def _of_site(name: str, config: Path | None) -> tuple[str, Remote, str]:
    """AE title and end of a system in the site file, and our own AE title."""
    from bridge.codecs.dicom_stations import Timetable
    from bridge.settings import load
    from bridge.yamlfile import suggest
    from channels.dicom_echo import Remote

    settings = load(site_file(config)).config
    if name not in settings.systems:
        raise NotFound(f"no system {name}", fix=suggest(name, settings.systems) or "or write AE@HOST:PORT")
    values = settings.systems[name].values
    if not values.get("dicom"):
        raise NotFound(f"the system {name} has no DICOM address", fix="add `dicom: {address: host:port}` to it")
    end = Remote.model_validate(values["dicom"])
    title = values["ae_title"]
    stations = Timetable([values]).at(datetime.now(ZoneInfo(settings.site.timezone)))
    called = end.ae_title or stations.turned_away(title) or title
    needs(called, f"the system {name} has no AE title", "add `ae_title:` to it")
    titles = (getattr(channel, "ae_title", "") for channel in settings.channels.values())
    return called, end, next((title for title in titles if title), "RADBRIDGE")
