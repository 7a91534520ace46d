"""`parkgate rebalance`: moves actors to the nodes where they belong, or starts them anew one after the other."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from cluster.rebalance import Place, Rebalance
    from ops.settings import Settings

Actors = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ACTOR]...", help="owner-0, gateway-1, quota-0 …: these, wherever they are."),
]
Everything = Annotated[bool, typer.Option("--all", help="All actors, wherever they are: a rolling restart.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say where they are and where they belong.")]


def rebalance(
    actors: Actors = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Move owners, gateways and the like to the nodes of Ray where they belong, one after the other.

    Without further words those that stand elsewhere than their turn puts them, as after a node has joined. The park
    stays open: an owner's tickets hear RETRY for some seconds while it moves, a gateway's turnstiles connect anew.
    """
    import asyncio

    from ops import state
    from ops.commands.options import settings
    from ops.errors import BadInput, OpsError
    from ops.services.cluster import joined

    if actors and everything:
        raise BadInput("--all goes without names of actors.", "Leave one of them out.")
    chosen = settings(data_dir, config)
    now = state.read(chosen.data_dir)
    if now is None or not now.alive:  # nobody would make anew what is ended
        raise OpsError(f"Nothing runs on {chosen.data_dir}.", "Start the stack first: parkgate up.")
    with joined(chosen):
        asyncio.run(_rebalance(chosen, actors or [], everything or bool(actors), dry_run, as_json))


async def _rebalance(settings: "Settings", actors: list[str], everything: bool, dry_run: bool, as_json: bool) -> None:
    from cluster.rebalance import Rebalance
    from ops.errors import BadInput, OpsError
    from ops.services.cluster import FURTHER, configuration
    from ticketcore.errors import NotFoundError, ParkgateError

    try:
        async with Rebalance.of(configuration(settings)[0], FURTHER) as work:
            places = await work.places(actors)
            moving = [place for place in places if everything or not place.is_right]
            moved = {} if dry_run else await _move(work, moving, quiet=as_json)
            if as_json:
                _print_json(await work.places(actors), moved)
            elif dry_run:
                _print_table(places)
            else:
                _say_what_is_left([place.actor for place in places if place.silent and place not in moving], moved)
    except NotFoundError as error:
        raise BadInput(f"{error}.") from error
    except ParkgateError as error:
        raise OpsError(f"{error}") from error


async def _move(work: "Rebalance", places: "list[Place]", *, quiet: bool) -> dict[str, float]:
    """Seconds until each served again. Says each as it does."""
    from ops.screen import OUT

    moved: dict[str, float] = {}
    for place in places:
        way = f"{_address(place)} → {place.belongs.address}"
        if quiet:
            moved[place.actor] = await work.move(place.actor)
            continue
        with OUT.status(f"{place.actor}: {way}"):
            moved[place.actor] = await work.move(place.actor)
        OUT.print(f"{place.actor}: {way}, serves again after {moved[place.actor]:.1f} s")
    return moved


def _say_what_is_left(silent: list[str], moved: dict[str, float]) -> None:
    from ops.screen import OUT

    if silent:
        OUT.print(
            f"[yellow]Not moved, for it does not say where it is: {', '.join(silent)}. It may be taking over; ask "
            "again, or name it to have it made anew."
        )
    elif not moved:
        OUT.print("Every actor is where it belongs; nothing was moved. `--all` starts them anew all the same.")


def _print_table(places: "list[Place]") -> None:
    from ops.screen import OUT, table

    rows = table(["Actor", "Is at", "Belongs to", ""], [])
    for place in places:
        to_do = "[yellow]does not answer" if place.silent else "" if place.is_right else "[yellow]to be moved"
        rows.add_row(place.actor, _address(place), place.belongs.address, to_do)
    OUT.print(rows)


def _address(place: "Place") -> str:
    if place.silent:
        return "?"
    return place.at.address if place.at is not None else "nowhere"


def _print_json(places: "list[Place]", moved: dict[str, float]) -> None:
    import json
    from dataclasses import asdict

    print(json.dumps([asdict(one) | {"is_right": one.is_right, "moved_s": moved.get(one.actor)} for one in places]))
