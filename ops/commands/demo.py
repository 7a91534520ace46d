"""`parkgate demo`: one park day, end to end, on a stack of its own."""

from pathlib import Path
from typing import Annotated

import typer

OUT = Path("demo-out")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for tickets and reports; removed and made anew.")] = OUT,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data folder, to go on with `parkgate up`.")] = False,
    seed: Annotated[int, typer.Option(help="Order of the crowd's guests, and who leaves.")] = 1,
    tickets: Annotated[int, typer.Option(help="Size of the crowd.", min=0, max=3000)] = 400,
) -> None:
    """Run one park day, end to end, and check every promise and its books.

    Starts real Postgres, Valkey and Ray with a folder and ports of its own, and leaves nothing running.
    Exit code 0 when every check passed, 1 when one did not: the last panel says which.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ops.demo.day import Options, run_demo

    result = run_demo(Options(out.expanduser().absolute(), seed, keep, tickets))
    raise typer.Exit(1 if result.failures else 0)
