"""``identity``: whose identifiers these are, and what waits for a person to decide."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Desk, Json, desk, examples, needs

if TYPE_CHECKING:
    from bridge.engine.identities import Answered
    from bridge.store.identity_desk import Person, Question

app = typer.Typer()


@app.command(
    epilog=examples(
        "radbridge identity",
        "radbridge identity '4711^HOSPITAL'",
        "radbridge identity --accept 12 --reason 'the HIS confirmed by phone'",
        "radbridge identity --unmerge '4711^HOSPITAL' --reason 'merged by mistake'",
    )
)
def identity(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A patient identifier: 4711^HOSPITAL, or 4711 if that is enough.")
    ] = "",
    accept: Annotated[int, typer.Option(metavar="NUMBER", help="What this question asks is so.")] = 0,
    reject: Annotated[int, typer.Option(metavar="NUMBER", help="What this question asks is not so.")] = 0,
    survivor: Annotated[str, typer.Option(metavar="ID", help="With --accept: which of several survives.")] = "",
    unmerge: Annotated[str, typer.Option(metavar="ID", help="Take the merge of this identifier back.")] = "",
    reason: Annotated[str, typer.Option(help="What the decision rests on; kept in the audit trail.")] = "",
    config: Config = None,
    machine: Json = False,
) -> None:
    """Decide about merged patients, and see their identifiers.

        Without anything it lists the questions that wait for a person: merges that are not clear change nothing until
    they are accepted. Seeing a patient is recorded in the audit trail, and so is every decision.
    """
    acts = [bool(accept), bool(reject), bool(unmerge), bool(identifier)]
    needs(sum(acts) <= 1, "one thing at a time", "name an ID, or --accept, --reject or --unmerge")
    needs(not survivor or accept, "--survivor belongs to --accept", "add --accept NUMBER")
    needs(bool(reason.strip()) == any(acts[:3]), "--reason belongs to a decision", "add --reason 'what it rests on'")
    with desk(config) as here:
        desk_ = here.operations.identity
        if accept:
            _answered(desk_.accept(accept, actor=here.actor, reason=reason, survivor=survivor), machine)
        elif reject:
            _answered(desk_.reject(reject, actor=here.actor, reason=reason), machine)
        elif unmerge:
            desk_.unmerge(unmerge, actor=here.actor, reason=reason)
            output.emit({"unmerged": unmerge}) if machine else output.say(
                "The merge is taken back. Replay the orders that came under it to move them on the worklist."
            )
        elif identifier:
            _person(here, desk_.person(identifier, actor=here.actor), machine)
        else:
            _questions(here, desk_.questions(), machine)


def _answered(answered: Answered, machine: bool) -> None:
    if machine:
        output.emit({"question": asdict(answered.question), "deliveries": list(answered.deliveries)})
        return
    output.say(f"Question {answered.question.number} is {answered.question.status}.")
    if answered.deliveries:
        output.say(f"The worklist follows as soon as the engine runs: {', '.join(answered.deliveries)}.")


def _person(here: Desk, person: Person, machine: bool) -> None:
    if machine:
        output.emit(asdict(person))
        return
    if person.survivor != person.identifier:
        output.say(output.printable(f"{person.identifier} was merged away; in use is {person.survivor}."))
    output.say(output.printable(f"Known as: {', '.join(person.identifiers)}"))
    output.table(
        ("when", "what", "identifier", "other", "message", "by"),
        (
            (output.at(row["at"], here.zone), row["act"], row["identifier"], row["other"], row["message"], row["actor"])
            for row in person.history
        ),
    )
    if person.questions:
        _questions(here, list(person.questions), machine)


def _questions(here: Desk, questions: list[Question], machine: bool) -> None:
    if machine:
        output.emit([asdict(question) for question in questions])
    elif not questions:
        output.say("Nothing waits for a decision.")
    else:
        output.table(
            ("question", "since", "what", "identifier", "candidates", "why", "message"),
            (
                (
                    question.number,
                    output.at(question.asked_at, here.zone),
                    question.act,
                    question.identifier,
                    ", ".join(question.candidates),
                    question.doubt,
                    question.message,
                )
                for question in questions
            ),
        )
        output.say("\nradbridge identity --accept NUMBER or --reject NUMBER, with --reason.", style="dim")
