"""The report of a rehearsal: figures worked out of what was measured, a verdict in words, charts, one page."""
