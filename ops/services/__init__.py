"""The services of the stack: each builds its configuration from the settings and serves until SIGTERM."""
