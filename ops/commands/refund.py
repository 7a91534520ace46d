"""`parkgate refund`: what refunding tickets would pay, and with --yes, refunding them."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.settings import Settings
    from parkgate.sales.v1 import sales_pb2

MAX_ID = 2**64 - 1
"""Ticket ids have 64 bits."""
WORDS = {
    "REFUNDED": "[green]refunded[/green]",
    "ALREADY_USED": "[red]used already: no refund[/red]",
    "NOT_ALLOWED": "[red]not refundable[/red]",
    "PENDING": "[yellow]asked, and settled later by itself[/yellow]",
}


def refund(
    tickets: Annotated[
        list[int], typer.Argument(metavar="TICKET_ID...", help="Ids of tickets, as sold.", min=1, max=MAX_ID)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Refund them; without it, only tell what it would pay.")] = False,
    window: Annotated[str, typer.Option(help="The window that pays back.")] = "w1",
    data_dir: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Quote the refund of tickets, and with --yes refund them. A ticket that was used is never refunded.

    Exit code 0 when all could be (or were) refunded, 1 when one could not.
    """
    import asyncio

    from ops.commands.options import settings

    found = settings(data_dir, config)
    digits, answers = asyncio.run(_refund(found, window, tickets, yes))
    if as_json:
        _print_json(answers)
    else:
        _print(digits, answers, yes)
    raise typer.Exit(0 if all(outcome in {"", "REFUNDED"} for outcome, _ in answers) else 1)


async def _refund(
    settings: "Settings", window: str, tickets: list[int], yes: bool
) -> "tuple[int, list[tuple[str, sales_pb2.RefundQuote]]]":
    """For each ticket what became of it, and the amounts; not refunded yet is the empty outcome."""
    from ops import running
    from ops.devices import window_folder
    from ops.window import open_window
    from parkgate.sales.v1 import sales_pb2

    port = running.port(running.require_running(settings.data_dir), "sales_port")
    async with open_window(window_folder(settings.data_dir, window), port, window) as till:
        digits = (await till.catalogue()).venue.currency_digits
        if not yes:
            quotes = (await till.quote_refund(tickets)).quotes
            return digits, [("NOT_ALLOWED" if quote.refusal else "", quote) for quote in quotes]
        results = (await till.refund(tickets)).results
        name = sales_pb2.RefundOutcome.Name
        return digits, [(name(one.outcome).removeprefix("REFUND_OUTCOME_"), one.quote) for one in results]


def _print_json(answers: "list[tuple[str, sales_pb2.RefundQuote]]") -> None:
    import json

    fields = [
        {
            "ticket_id": str(quote.ticket_id),
            "outcome": outcome or "QUOTED",
            "price_minor": quote.price_minor,
            "fee_minor": quote.fee_minor,
            "refund_minor": quote.refund_minor,
            "refusal": quote.refusal,
            "use_unknown": quote.use_unknown,
        }
        for outcome, quote in answers
    ]
    print(json.dumps(fields, indent=1))


def _print(digits: int, answers: "list[tuple[str, sales_pb2.RefundQuote]]", yes: bool) -> None:
    from rich.markup import escape

    from ops.screen import OUT, table
    from ops.window import money

    rows = table(["Ticket", "Paid", "Fee", "Refund", ""], ["Paid", "Fee", "Refund"])
    for outcome, quote in answers:
        words = WORDS.get(outcome, "if it is unused: the gates' owners did not answer" if quote.use_unknown else "")
        words += f": {escape(quote.refusal)}" if quote.refusal else ""
        amounts = (money(part, digits) for part in (quote.price_minor, quote.fee_minor, quote.refund_minor))
        rows.add_row(str(quote.ticket_id), *amounts, words)
    OUT.print(rows)
    if not yes:
        OUT.print("\nNothing is refunded yet. Confirm with [cyan]--yes[/cyan].")
