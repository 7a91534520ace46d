"""`parkgate down`: stops the stack in order."""

from ops.commands.options import Config, DataDir


def down(data_dir: DataDir = None, config: Config = None) -> None:
    """Stop everything in order, and see that nothing is left."""
    import time

    from ops.commands.options import settings
    from ops.screen import OUT
    from ops.watcher import stop_stack

    folder = settings(data_dir, config).data_dir
    began = time.monotonic()
    with OUT.status(f"Stopping Parkgate in {folder}"):
        stopped = stop_stack(folder)
    OUT.print(
        f"Stopped after {time.monotonic() - began:.1f} s; the data stays in {folder}."
        if stopped
        else f"Nothing runs on {folder}."
    )
