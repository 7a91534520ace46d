"""Alembic's folder: the schema `reporting`, version by version."""
