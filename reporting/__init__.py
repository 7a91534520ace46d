"""Reporting: carries the ledger into Postgres, exactly once, and answers what finance and operations ask."""
