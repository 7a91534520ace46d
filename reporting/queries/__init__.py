"""Queries: small functions, each one SQL statement, over the schema `reporting` and the views of sales."""
