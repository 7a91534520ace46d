"""`parkgate enroll`: certificates for gates, windows, services and finance."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.pki import Issued, Pair
    from ops.settings import Settings

app = typer.Typer(help="Give devices and people certificates, and take them back.", no_args_is_help=True)

COLOURS = {"valid": "green", "ended": "yellow", "revoked": "red"}
Name = Annotated[str, typer.Argument(help="A name of lower-case letters, digits, dots, dashes: north-1")]
Out = Annotated[Path, typer.Option("--out", help="Folder that gets the certificate, its key and the park's CA.")]
Gates = Annotated[str, typer.Option("--gates", help="Gates that this device may speak for, with commas: main-1,main-2")]


@app.command()
def gate(name: Name, gates: Gates, out: Out = Path(), data_dir: DataDir = None, config: Config = None) -> None:
    """A turnstile, handheld or lane controller, and the gates that it may speak for."""
    _enroll("gate", name, [one.strip() for one in gates.split(",") if one.strip()], (out, data_dir, config))


@app.command()
def window(name: Name, out: Out = Path(), data_dir: DataDir = None, config: Config = None) -> None:
    """A sales window or kiosk."""
    _enroll("window", name, [], (out, data_dir, config))


@app.command()
def service(name: Name, out: Out = Path(), data_dir: DataDir = None, config: Config = None) -> None:
    """A program that talks to Parkgate: a web shop, an agency's system."""
    _enroll("service", name, [], (out, data_dir, config))


@app.command()
def finance(name: Name, out: Out = Path(), data_dir: DataDir = None, config: Config = None) -> None:
    """Somebody who reads reports."""
    _enroll("finance", name, [], (out, data_dir, config))


@app.command()
def renew(name: Name, out: Out = Path(), data_dir: DataDir = None, config: Config = None) -> None:
    """A new certificate with the same rights; the old one stays valid until it ends."""
    from ops import enrolment
    from ops.commands.options import settings

    folder = settings(data_dir, config).data_dir
    _make(out)
    _hand_over(folder, enrolment.renew(folder, name, _now()), out)


@app.command()
def revoke(
    serial_or_name: Annotated[str, typer.Argument(help="The serial of one certificate, or a name for all of its.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Take certificates back: nothing serves them any more, and within seconds their open streams end."""
    from ops import enrolment
    from ops.commands.options import settings
    from ops.screen import OUT

    folder = settings(data_dir, config).data_dir
    gone = enrolment.revoke(folder, serial_or_name, _now())
    for one in gone:
        OUT.print(f"Revoked {one.kind} {one.name}, serial {one.serial}.")
    if not gone:
        OUT.print(f"{serial_or_name} was revoked before.")


@app.command(name="list")
def list_(data_dir: DataDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """Everyone who was ever enrolled."""
    from ops import enrolment
    from ops.commands.options import settings
    from ops.screen import OUT, table

    folder = settings(data_dir, config).data_dir
    gone, now = enrolment.revoked(folder), _now()
    found = [(one, _standing(one.serial in gone, one.not_after <= now)) for one in enrolment.issued(folder)]
    if as_json:
        import json

        fields = [{**_fields(one), "standing": standing} for one, standing in found]
        print(json.dumps(fields, indent=1))
        return
    if not found:
        OUT.print(
            "Nobody is enrolled yet. For example: [cyan]parkgate enroll gate north-1 --gates main-1 --out usb/[/cyan]"
        )
        return
    rows = table(["Kind", "Name", "Standing", "Valid until", "Speaks for", "Serial"])
    for one, standing in found:
        speaks_for = ", ".join(uri.removeprefix("parkgate://") for uri in one.uris)
        rows.add_row(
            one.kind,
            one.name,
            f"[{COLOURS[standing]}]{standing}[/]",
            f"{one.not_after:%Y-%m-%d}",
            speaks_for,
            one.serial,
        )
    OUT.print(rows)


def _enroll(kind: str, name: str, gates: list[str], options: tuple[Path, Path | None, Path | None]) -> None:
    from ops import enrolment
    from ops.commands.options import settings
    from ops.pki import Kind, identities

    out, data_dir, config = options
    found = settings(data_dir, config)
    folder = found.data_dir
    identities(Kind(kind), name, gates)
    _check_gates(found, gates)
    _make(out)
    _hand_over(folder, enrolment.enroll(folder, Kind(kind), name, gates, _now()), out)


def _check_gates(found: "Settings", gates: list[str]) -> None:
    """A device that spoke for a gate that is none would be refused by the gateways, once it hangs at its lane."""
    from ops.services.catalogue import ensure_catalogue, read_catalogue, require_gates

    if gates:
        ensure_catalogue(found)
        require_gates(read_catalogue(found.catalogue_dir)[1], gates)


def _make(out: Path) -> None:
    """Before anybody is enrolled: a certificate whose key could not be written would only bar its name."""
    from ops.errors import OpsError
    from ops.files import make_folder

    try:
        make_folder(out)
    except OpsError as error:
        raise OpsError(f"{error.message} Nobody was enrolled.", "Choose another folder with --out.") from error


def _hand_over(folder: Path, made: "tuple[Pair, Issued]", out: Path) -> None:
    from ops import enrolment
    from ops.screen import OUT

    pair, record = made
    paths = enrolment.save(pair, enrolment.authority(folder, _now()).certificate, record.name, out)
    OUT.print(
        f"Enrolled {record.kind} {record.name} until {record.not_after:%Y-%m-%d}, serial {record.serial}.",
        soft_wrap=True,
    )
    for path, what in zip(paths, ("certificate", "private key: keep it secret", "the park's CA"), strict=True):
        OUT.print(f"  {path}  [dim]{what}[/dim]", soft_wrap=True)


def _standing(revoked: bool, ended: bool) -> str:
    return "revoked" if revoked else "ended" if ended else "valid"


def _fields(one: "Issued") -> dict[str, object]:
    return {
        "serial": one.serial,
        "kind": str(one.kind),
        "name": one.name,
        "uris": list(one.uris),
        "not_after": one.not_after.isoformat(),
    }


def _now() -> datetime:
    return datetime.now(UTC)
