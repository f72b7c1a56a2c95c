"""``function``: the named functions of the mapping language, described by their examples, and tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, needs, site_file
from bridge.errors import NotFound

if TYPE_CHECKING:
    from bridge.mapping.functions import Function, Option

app = typer.Typer()


@app.command(
    epilog=examples(
        "radbridge function",
        "radbridge function measure",
        "radbridge function measure 170 cm --with to=m --json",
    )
)
def function(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A function, as a mapping calls it with `as:`.")] = "",
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[VALUE]...", help="HL7 text; repetitions parted by ~.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--with", metavar="OPTION=VALUE", help="An option; several parted by commas.")
    ] = None,
    config: Config = None,
    machine: Json = False,
) -> None:
    """List the functions of mappings, or try one.

    Without NAME all of them, with it what it does and its examples, with values what it makes of these. The site
    (time zone, identifiers) is that of the site file. Exit code 3 if it refuses the values.
    """
    from bridge.mapping.functions import FUNCTIONS
    from bridge.yamlfile import suggest

    if not name:
        _list(list(FUNCTIONS.values()), machine)
        return
    if name not in FUNCTIONS:
        raise NotFound(f"no function {name}", fix=suggest(name, FUNCTIONS) or "`radbridge function` names them")
    if values:
        _try(FUNCTIONS[name], values, options or [], config, machine)
    else:
        _describe(FUNCTIONS[name], machine)


def _facts(one: Function) -> dict[str, Any]:
    return {"name": one.name, "takes": one.takes, "options": list(one.options), "gives": one.summary}


def _list(found: list[Function], machine: bool) -> None:
    facts = sorted((_facts(one) for one in found), key=lambda one: str(one["name"]))
    if machine:
        output.emit(facts)
        return
    rows = ((one["name"], one["takes"], ", ".join(one["options"]), one["gives"]) for one in facts)
    output.table(("name", "takes", "options", "what it gives"), rows)


def _describe(chosen: Function, machine: bool) -> None:
    from bridge.mapping.functions.examples import examples_of, shown

    tried = examples_of(chosen)
    if machine:
        found = [{"values": one.inputs, "options": one.options, "result": one.result} for one in tried]
        output.emit({**_facts(chosen), "examples": found})
        return
    output.say(f"{chosen.name}: takes {chosen.takes}", style="bold")
    output.say(chosen.description)
    for one in tried:
        given = [*map(repr, one.inputs), *(f"{name}: {value}" for name, value in one.options.items())]
        output.say(output.printable(f"  {', '.join(given)} gives {shown(one.result) or 'nothing'}"))


def _try(chosen: Function, values: list[str], options: list[str], config: Any, machine: bool) -> None:
    from bridge.mapping.functions import run
    from bridge.mapping.functions.examples import shown
    from bridge.settings import load

    given = dict(one.partition("=")[::2] for one in options)
    unknown = sorted(given.keys() - chosen.options.keys())
    known = ", ".join(chosen.options) or "none"
    needs(not unknown, f"{chosen.name} has no option {', '.join(unknown)}", f"it has {known}")
    missing = [name for name, one in chosen.options.items() if one.required and name not in given]
    needs(not missing, f"{chosen.name} needs {', '.join(missing)}", f"add --with {missing[0] if missing else ''}=VALUE")
    count = len(values) >= chosen.least and (chosen.most is None or len(values) <= chosen.most)
    needs(count, f"{chosen.name} takes {chosen.least} values, not {len(values)}", "'' is an empty one")
    site = load(site_file(config)).config.site.model_dump(mode="json")
    read = {name: _option(chosen.options[name], text) for name, text in given.items()}
    result = run(chosen.name, *values, site=site, **read)
    if machine:
        output.emit({"result": result})
    else:
        output.say(output.printable(shown(result)))


def _option(option: Option, text: str) -> Any:
    if option.kind == "list":
        return text.split(",")
    if option.kind == "number":
        needs(text.isdecimal(), f"{option.name} is a number", "write digits")
        return int(text)
    if option.kind == "switch":
        return text == "true"
    needs(not option.choices or text in option.choices, f"{option.name} cannot be {text}", ", ".join(option.choices))
    return text
