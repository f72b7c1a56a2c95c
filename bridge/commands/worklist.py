"""``worklist``: what modalities are offered, what one of them gets and why not the rest, and files of other servers."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples, needs

if TYPE_CHECKING:
    from bridge.model import WorklistUpdate
    from bridge.store.worklist import Worklist, WorklistItem

group = typer.Typer(
    invoke_without_command=True,
    help="List the steps in the worklist.",
    epilog=examples(
        "radbridge worklist",
        "radbridge worklist --station CT1 --date 20240131 --json",
        "radbridge worklist --as CT1 --date today",
        "radbridge worklist --as CT1B --at 2026-12-01T08:00",
        "radbridge worklist --without-order",
        "radbridge worklist export /srv/worklists",
    ),
)
app = typer.Typer()
app.add_typer(group, name="worklist")


@group.callback()
def worklist(
    context: typer.Context,
    station: Annotated[str, typer.Option(metavar="AE", help="Only steps for this station's AE title.")] = "",
    caller: Annotated[
        str, typer.Option("--as", metavar="AE", help="What this modality would get now, and why not the other steps.")
    ] = "",
    unordered: Annotated[
        bool, typer.Option("--without-order", help="What modalities performed and no order has, the newest first.")
    ] = False,
    at: Annotated[str, typer.Option(metavar="TIME", help="With --as: what it would get then; 2026-12-01T08:00.")] = "",
    date: Annotated[str, typer.Option(metavar="DAY", help="today, all, 20240131 or 20240101-20240131.")] = "today",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many at most, the earliest.")] = 1000,
    config: Config = None,
    machine: Json = False,
) -> None:
    """List the steps in the worklist.

        All of them, with their status and who was given them: modalities see those that are scheduled or started.
    Seeing them is recorded in the audit trail.
    """
    if context.invoked_subcommand:
        return
    needs(not (station and caller), "--station and --as do not go together", "--as asks for that modality's own steps")
    needs(not (unordered and (station or caller)), "--without-order goes alone", "it tells of every modality")
    needs(caller or not at, "--at goes with --as", "it asks as a modality would then")
    with desk(config) as here:
        moment = _moment(at) if at else datetime.now(here.zone)
        wanted = moment.strftime("%Y%m%d") if date == "today" else "" if date == "all" else date
        if re.fullmatch(r"\d{4}-\d\d-\d\d", wanted):
            wanted = wanted.replace("-", "")
        if unordered:
            _without_order(here, machine=machine)
        elif caller:
            _as_modality(here, caller, wanted, moment, machine=machine)
        else:
            items = here.operations.worklist(actor=here.actor, station=station, date=wanted, limit=limit)
            when = "at any time" if date == "all" else f"on {date}"
            _show(here, items, f"No step{f' for {station}' if station else ''} {when}.", machine=machine)


def _show(here: Desk, items: list[WorklistItem], nothing: str, *, machine: bool) -> None:
    rows = _rows(here, items)
    if machine:
        output.emit([{**row, "attributes": item.attributes} for row, item in zip(rows, items, strict=True)])
    else:
        _table(rows, nothing)


def _table(rows: list[dict[str, str]], nothing: str) -> None:
    if rows:
        output.table(tuple(rows[0]), (tuple(row.values()) for row in rows))
    else:
        output.say(nothing)


def _rows(here: Desk, items: list[WorklistItem]) -> list[dict[str, str]]:
    """What people know the steps by, and who was given them."""
    numbers = [item.id for item in items]
    served, alerted = here.store.worklist.served_to(numbers), here.store.worklist.alerted(numbers)

    def fetched(number: int) -> str:
        by = (f"{fetch.ae_title} {output.since(fetch.last_at, here.zone)}" for fetch in served.get(number, ()))
        return "nobody in time" if number in alerted else ", ".join(by)

    return [{"status": item.status.value, **summary(item.attributes), "given to": fetched(item.id)} for item in items]


def _without_order(here: Desk, *, machine: bool) -> None:
    from bridge.store.worklist_performed import without_order

    rows = [
        {
            "status": said.status.value,
            "accession": said.accession,
            "step": said.step,
            "study": said.study,
            "id": said.instance,
        }
        for said in here.store.read(without_order)
    ]
    if machine:
        output.emit(rows)
    else:
        _table(rows, "Everything that was performed has its order.")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise typer.BadParameter("write a time of the site's clock, such as 2026-12-01T08:00") from None


def _as_modality(here: Desk, caller: str, date: str, moment: datetime, *, machine: bool) -> None:
    from bridge.ports import Services, channel_type

    config = here.loaded.config
    name = next((name for name, one in config.channels.items() if one.type == "dicom-worklist"), "")
    needs(name, "the site has no worklist", "add a channel of type dicom-worklist")
    systems = {one: system.values for one, system in config.systems.items()}
    services = Services(name, config.site, worklist=here.store.worklist, systems=systems)
    end = channel_type("dicom-worklist").build(config.channels[name], services)
    shown, missing = end.shown(caller, date, moment)
    here.store.record(here.actor, "view", "worklist", {"as": caller, "date": date, "items": len(shown) + len(missing)})
    got, rest = _rows(here, shown), _rows(here, [item for item, _ in missing])
    rest = [{"missing because": why, **row} for row, (_, why) in zip(rest, missing, strict=True)]
    if machine:
        output.emit({"as": caller, "shown": got, "missing": rest})
        return
    _table(got, f"{caller} gets nothing.")
    if rest:
        output.say()
        _table(rest, "")


@group.command("export", epilog=examples("radbridge worklist export /srv/worklists --charset 'ISO_IR 100'"))
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the .wl files go; it is made if missing.")],
    charset: Annotated[str, typer.Option(help="Their character set.")] = "ISO_IR 192",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Write the open steps as .wl files, as DCMTK and Orthanc read them.

        What is scheduled or started. A step whose text does not fit the character set is left out, and named. Seeing
    them is recorded in the audit trail.
    """
    from bridge.codecs.dicom_file import to_file
    from bridge.codecs.dicom_query import EVERYTHING
    from bridge.codecs.dicom_text import Unfit

    with desk(config) as here:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lockfile").touch()
        written, unfit = 0, []
        for item in here.store.worklist.find(EVERYTHING):
            try:
                data = to_file(item.attributes, charset=charset)
            except Unfit as error:
                unfit.append({"accession": str(item.attributes.get("AccessionNumber", "")), "attribute": error.at})
                continue
            (folder / f"step{item.id:08}.wl").write_bytes(data)
            written += 1
        here.store.record(here.actor, "view", "worklist", {"export": str(folder), "items": written})
    if machine:
        output.emit({"written": written, "left out": unfit})
        return
    output.say(f"{written} written to {folder}.")
    for one in unfit:
        output.note(f"left out: accession {one['accession']}, {one['attribute']} does not fit {charset}")


@group.command("import", epilog=examples("radbridge worklist import /srv/worklists"))
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of .wl files.", exists=True)],
    config: Config = None,
    machine: Json = False,
) -> None:
    """Take the .wl files of another worklist server into the worklist.

        Each keeps all its attributes. An order that is here already, by its accession number or its numbers of placer
    and filler, is brought up to date. Exit code 3 if a file could not be used; it is named, and the others are taken.
    """
    with desk(config) as here:
        taken, refused = _import(here, sorted(folder.glob("**/*.wl")))
        here.store.record(here.actor, "import", "worklist", {"folder": str(folder), "items": taken})
    if machine:
        output.emit({"taken": taken, "refused": refused})
    else:
        output.say(f"{taken} taken.")
        for one in refused:
            output.note(f"{one['file']}: {output.sentence(one)}")
    raise typer.Exit(3 if refused else 0)


def _import(here: Desk, files: list[Path]) -> tuple[int, list[dict[str, Any]]]:
    from bridge.codecs.dicom_file import from_file, update_of
    from bridge.errors import BridgeError

    worklist, taken, refused = here.store.worklist, 0, []
    for path in files:
        try:
            update = update_of(from_file(path.read_bytes()), here.loaded.config.site.order_issuer)
            here.store.write(partial(_apply, worklist, update))
            taken += 1
        except BridgeError as error:
            refused.append({"file": path.name, **error.as_dict()})
    return taken, refused


def _apply(worklist: Worklist, update: WorklistUpdate, tx: Any) -> None:
    worklist.apply(tx, update, worklist.newest(tx))


def summary(attributes: dict[str, Any]) -> dict[str, str]:
    """The few attributes by which people know a step."""
    step = attributes["ScheduledProcedureStepSequence"][0]

    def text(value: Any) -> str:
        return ", ".join(value) if isinstance(value, list) else str(value or "")

    day, clock = text(step.get("ScheduledProcedureStepStartDate")), text(step.get("ScheduledProcedureStepStartTime"))
    return {
        "start": f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4] or '00'}",
        "station": text(step.get("ScheduledStationAETitle")),
        "modality": text(step.get("Modality")),
        "accession": text(attributes.get("AccessionNumber")),
        "patient id": text(attributes.get("PatientID")),
        "name": text(attributes.get("PatientName")),
        "procedure": text(
            step.get("ScheduledProcedureStepDescription") or attributes.get("RequestedProcedureDescription")
        ),
    }
