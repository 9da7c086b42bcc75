"""Keys for tests whose subject is something else."""

from __future__ import annotations

from store.engine import create_engine
from store.keys import KeyChanges, NewKey


class Quiet(KeyChanges):
    """Changes keys without telling the audit log, so that it holds what a test put there."""

    async def _tell(self, *_args):
        pass


async def create_key(settings, *, project, name, scopes, deadlines):
    """As store.keys.create_key, but quiet."""
    engine = create_engine(settings.database_url, deadlines, pool_size=1)
    try:
        changes = Quiet(engine, "cli")
        return (await changes.create(await changes.project(project), NewKey(name=name, scopes=scopes)))[1]
    finally:
        await engine.dispose()
