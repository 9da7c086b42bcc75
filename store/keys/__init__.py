"""API keys: shown once, kept as SHA-256, looked up through a cache that outlives a short loss of the database.

A key is `tw_<8 characters>_<43 characters>`. The first part, its *prefix*, names it in lists and audit events; the last
has 256 bits, so one round of SHA-256 is enough.

    changes: create, list, revoke, rotate, each with its audit event     lookup: whose key is this, and does it work
"""

from __future__ import annotations

from store.keys.changes import (
    GRACE,
    MAX_GRACE,
    MAX_LIFETIME,
    MAX_LISTED,
    MAX_PROJECT_KEYS,
    KeyChanges,
    KeyInfo,
    NewKey,
    NotRotatable,
    changes_of,
    create_key,
    new_key_text,
)
from store.keys.lookup import MAX_KEYS, Key, Keys, TooManyGuesses

__all__ = [
    "GRACE",
    "MAX_GRACE",
    "MAX_KEYS",
    "MAX_LIFETIME",
    "MAX_LISTED",
    "MAX_PROJECT_KEYS",
    "Key",
    "KeyChanges",
    "KeyInfo",
    "Keys",
    "NewKey",
    "NotRotatable",
    "TooManyGuesses",
    "changes_of",
    "create_key",
    "new_key_text",
]
