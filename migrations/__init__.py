"""Alembic's environment and revisions. Each revision freezes its own SQL."""
