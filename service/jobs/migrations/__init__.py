"""Alembic: the schema, step by step. `database.upgrade` runs what is missing at start."""
