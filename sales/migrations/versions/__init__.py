"""Migrations of the schema `sales`, in order. A released one is never changed."""
