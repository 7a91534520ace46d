"""One module a command or group of commands. Their tops import only typer and the standard library."""
