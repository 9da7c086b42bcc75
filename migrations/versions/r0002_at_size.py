"""At size: what hundreds of millions of rows need.

`r0002/up` runs in the order of its names, `r0002/down` in the reverse; `10_name.community.sql` on that edition only.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AS_IS = {"no_parameters": True}
"""Send a script as it is: several statements, and % is just a character."""
FROZEN = Path(__file__).with_name("r0002")


def _run(direction: str, *, reverse: bool = False) -> None:
    bind = op.get_bind()
    edition = bind.execute(text("SELECT edition FROM tollwatch.schema_info")).scalar_one()
    for script in sorted((FROZEN / direction).glob("*.sql"), reverse=reverse):
        _, _, only = script.stem.partition(".")
        if only in ("", edition):
            bind.exec_driver_sql(script.read_text(encoding="utf-8"), execution_options=AS_IS)


def upgrade() -> None:
    """Run what is new, for the edition that the first migration recorded."""
    _run("up")


def downgrade() -> None:
    """Undo it, last first."""
    _run("down", reverse=True)
