"""Backup and restore: one file that holds a park, made while it runs. What makes the file consistent:

    Postgres is seen at an instant P, the ledger at an instant L, and P <= L. What each side knows of the other holds:

    reporting's offsets at P are of entries that the ledger has at L      P <= L, and entries are never taken back
    entries after those offsets are in the log at L                       checked: its first entry at L is not later
    what sales told the ledger and forgot (outbox) at P is there at L     a row is deleted after it is acknowledged
    what the ledger knows at L of sales' doings, sales knows at P         from P to L nothing of sales commits

The last line is why the tables of sales are locked against writing from before P until L is fixed: otherwise the ledger
would hold tickets that sales does not know and whose ids it would give again. L is when the ledger's server forks, some
milliseconds after it was asked; gates notice nothing, a sale waits that long.

What happens twice after a restore is harmless: outbox rows are told again, voids are asked again, with the same ids.
A restored ledger has higher epochs, no owners' addresses, no half-written snapshots, and trims no further than the
restored Postgres has read.
"""
