"""Redaction at ingest: what looks like a secret is replaced before it is stored, in free text and in JSON values.

Looked for: credentials and keys in URLs, Authorization tokens, well-known API keys and ours, JWTs, PEM private keys,
Solana keypairs (base58 or the JSON array of 64 bytes), seed phrases, and JSON members whose name says that they are
secret. A base58 text of 64 bytes is a keypair only if its second half is the public key of its first, so signatures of
transactions, which have the same length, stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from solders.keypair import Keypair

from store.errors import InvalidValue

REDACTED = "[redacted]"
MAX_CACHED = 4096
_CACHED_LENGTH = 200

_NAMES_OF_SECRETS = (
    r"api[-_ ]?key|x-api-key|access[-_ ]?(?:key|token)|auth[-_ ]?token|refresh[-_ ]?token|id[-_ ]?token|"
    r"session[-_ ]?token|bearer[-_ ]?token|client[-_ ]?secret|secret(?:[-_ ]?key)?|private[-_ ]?key|signing[-_ ]?key|"
    r"pass(?:word|wd|phrase)|mnemonic|seed[-_ ]?phrase|credentials?|authorization|cookie"
)
_BOUNDARY = r"(?<![A-Za-z0-9])"
_VALUE = r"[^&;#\s\"'<>]"
# ?token=SOL and ?token=<mint> are what is bought, not what pays for it.
_PUBLIC_TOKEN = rf"(?:(?-i:[A-Z]{{2,10}})|[1-9A-HJ-NP-Za-km-z]{{32,44}}|0x[0-9a-f]{{40}})(?!{_VALUE})"
_PREFIXED = (
    r"[sr]k[-_](?:live[-_]|test[-_]|proj-|ant-)?[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|"
    r"glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}"
)
_WORD_HINTS = ("key", "token", "secret", "pass", "mnemonic", "phrase", "credential", "authoriz", "cookie")


def _rule(hints: tuple[str, ...], pattern: str, replacement: str) -> tuple[tuple[str, ...], re.Pattern[str], str]:
    return hints, re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement


# A pattern is tried only on texts that have one of its hints, in lower case: most texts have none.
_RULES = (
    _rule(
        ("private key-",),
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
        REDACTED,
    ),
    _rule(("@",), r"(\b[a-z][a-z0-9+.-]{1,15}://)[^\s/?#@\"'<>]+(?:@[^\s/?#@\"'<>]+)*@", rf"\1{REDACTED}@"),
    _rule(
        (*_WORD_HINTS, "auth=", "sig=", "signature=", "jwt=", "pwd="),
        rf"([?&;#](?:[\w.-]*(?:{_NAMES_OF_SECRETS})|[\w.-]+signature|key|auth|sig|jwt|pwd|pass)=){_VALUE}+",
        rf"\1{REDACTED}",
    ),
    _rule(("token=",), rf"([?&;#]token=)(?!{_PUBLIC_TOKEN}){_VALUE}+", rf"\1{REDACTED}"),
    _rule(
        ("alchemy.com", "infura.io", "quiknode.pro"),
        r"((?:alchemy\.com/v2|infura\.io/(?:ws/)?v3|quiknode\.pro)/)[A-Za-z0-9_-]{16,}",
        rf"\1{REDACTED}",
    ),
    _rule(("bearer", "basic"), rf"{_BOUNDARY}(bearer|basic)\s+[A-Za-z0-9._~+/=-]{{16,}}", rf"\1 {REDACTED}"),
    _rule(("tw_",), rf"{_BOUNDARY}tw_[A-Za-z0-9]{{8}}_[A-Za-z0-9_-]{{20,}}", REDACTED),
    _rule(("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", REDACTED),
    _rule(
        ("sk-", "sk_", "rk-", "rk_", "gh", "glpat-", "xox", "hf_", "akia", "aiza"),
        rf"{_BOUNDARY}(?:{_PREFIXED})",
        REDACTED,
    ),
    _rule(
        _WORD_HINTS,
        rf"({_BOUNDARY}(?:{_NAMES_OF_SECRETS})\b[\"']?\s*[:=]\s*[\"']?)(?!\[redacted)(?:(?:bearer|basic)\s+)?[^\s\"',;&}}]+",
        rf"\1{REDACTED}",
    ),
    _rule(("[",), r"\[\s*(?:\d{1,3}\s*,\s*){63}\d{1,3}\s*\]", REDACTED),
)
_HINTS = frozenset(
    hint
    for hints, _, _ in _RULES
    for hint in hints
    if not any(other in hint and other != hint for other in _WORD_HINTS)
)


def _rarity(letter: str) -> int:
    """Of a letter in English; anything else is rarer."""
    return "etaoinsrhldcumpgfwybvkxjqz".find(letter) % 27


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Finds one of them. Looks for their rarest letters, few of which a text has: up to four times as fast."""
    found: dict[str, list[str]] = {}
    for word in sorted(words):
        at = max(range(len(word)), key=lambda place: _rarity(word[place]))
        before, rest = re.escape(word[: at + 1]), re.escape(word[at + 1 :])
        found.setdefault(word[at], []).append(f"(?<={before}){rest}" if at else rest)
    return re.compile("|".join(f"{re.escape(letter)}(?:{'|'.join(rests)})" for letter, rests in found.items()))


_HINT = _any_of(_HINTS)
_BASE58_64 = re.compile(r"(?<![A-Za-z0-9])[1-9A-HJ-NP-Za-km-z]{86,88}(?![A-Za-z0-9])")
# BIP-39: 12 to 24 words of three to eight letters. Its list has none of the words that prose can hardly avoid.
_PHRASE = re.compile(r"(?<![A-Za-z])[a-z]{3,8}(?:(?:\s+|,\s*)[a-z]{3,8}){11,}(?![A-Za-z])")
_PROSE = frozenset(
    {"the", "was", "were", "not", "for", "and", "are", "has", "had", "from", "been", "could", "would", "which", "its"}
    | {"but", "than", "his", "her", "our", "does", "did", "cannot", "after", "being", "their", "them", "with"}
)
_SECRET_NAME = re.compile(
    r"apikey|accesskey|accesstoken|authtoken|refreshtoken|idtoken|sessiontoken|bearertoken|secret|privatekey|signingkey|"
    r"passw|passphrase|mnemonic|seedphrase|credential|authorization|cookie|keypair"
)
_SECRET_NAMES = frozenset({"seed", "pwd", "jwt", "auth", "pin"})


def redact_text(text: str) -> str:
    """`text` with secrets replaced by `[redacted]`; unchanged where there are none."""
    return _redact_short(text) if len(text) <= _CACHED_LENGTH else _redact(text)


def redact_optional(text: str | None) -> str | None:
    """As redact_text, of a text that may be missing."""
    if text is None:
        return None
    return _redact_short(text) if len(text) <= _CACHED_LENGTH else _redact(text)


def redact_json(value: Any, max_depth: int = 16, public: str | None = None) -> Any:
    """A decoded JSON value with secrets replaced, names of members included. Raises InvalidValue: nested too deeply.

    `public`: a text that is none, such as the signature of the very transaction: to tell that from a keypair takes
    longer than all the rest of an event.
    """
    if max_depth < 0:
        raise InvalidValue("it is nested too deeply")
    if isinstance(value, str):
        return value if value == public else redact_text(value)
    if isinstance(value, list):
        return REDACTED if _is_secret_list(value) else [redact_json(item, max_depth - 1, public) for item in value]
    if isinstance(value, dict):
        return {redact_text(name): _member(name, item, max_depth - 1, public) for name, item in value.items()}
    return value


def _member(name: str, value: Any, max_depth: int, public: str | None) -> Any:
    if value is not None and not isinstance(value, bool) and _says_secret(name):
        return REDACTED
    return redact_json(value, max_depth, public)


@lru_cache(MAX_CACHED)
def _says_secret(name: str) -> bool:
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    return bare in _SECRET_NAMES or _SECRET_NAME.search(bare) is not None


def _is_secret_list(items: list[Any]) -> bool:
    if len(items) == 64:
        return all(type(item) is int and 0 <= item <= 255 for item in items)
    if 12 <= len(items) <= 24 and all(isinstance(item, str) for item in items):
        return _PHRASE.fullmatch(" ".join(items)) is not None and _PROSE.isdisjoint(items)
    return False


def _redact(text: str) -> str:
    lower = text.lower()
    if _HINT.search(lower) is not None:
        for hints, pattern, replacement in _RULES:
            if any(hint in lower for hint in hints):
                text = pattern.sub(replacement, text)
    if len(text) >= 86:
        text = _BASE58_64.sub(_keypair, text)
    return _PHRASE.sub(_phrase, text) if text.count(" ") + text.count(",") >= 11 else text


_redact_short = lru_cache(MAX_CACHED)(_redact)
redact_name = lru_cache(MAX_CACHED)(redact_optional)
"""As redact_optional, of a text that is short and told again and again."""


def _keypair(match: re.Match[str]) -> str:
    try:
        Keypair.from_base58_string(match[0])
    except ValueError:
        return match[0]
    return REDACTED


def _phrase(match: re.Match[str]) -> str:
    words = re.findall(r"[a-z]+", match[0])
    return REDACTED if _PROSE.isdisjoint(words) else match[0]
