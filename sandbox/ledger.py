"""What the virtual machine does not keep: executed transactions with their indexes, and the state of earlier slots."""

import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

DEFAULT_LIMIT = 50_000
"""Transactions kept, at about 1.7 kB each. The oldest are forgotten, from every index, a slice at a time."""

_SLICES = 1000


class TokenBalance(msgspec.Struct, frozen=True, array_like=True):
    """A token account's balance beside a transaction; `index` counts the transaction's account keys."""

    index: int
    mint: bytes
    owner: bytes
    program: bytes
    amount: int
    decimals: int


class InnerInstruction(msgspec.Struct, frozen=True, array_like=True):
    """An instruction that a program issued; indexes count the transaction's account keys."""

    program_index: int
    accounts: bytes
    data: bytes
    stack_height: int | None


class Balances(msgspec.Struct, frozen=True, array_like=True):
    """Lamports of every account key, and tokens of those that are token accounts."""

    lamports: tuple[int, ...]
    tokens: tuple[TokenBalance, ...]


class Detail(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What an execution did; `wire` is the transaction as it was sent."""

    wire: bytes
    loaded_writable: tuple[bytes, ...]
    loaded_readonly: tuple[bytes, ...]
    fee: int
    units: int
    before: Balances
    after: Balances
    logs: tuple[str, ...]
    inner: tuple[tuple[InnerInstruction, ...], ...]
    return_data: tuple[bytes, bytes] | None

    def transaction(self) -> VersionedTransaction:
        """The transaction, decoded anew."""
        return VersionedTransaction.from_bytes(self.wire)

    def account_keys(self) -> list[bytes]:
        """Every account key: static, then loaded writable, then loaded readonly."""
        static = [bytes(key) for key in self.transaction().message.account_keys]
        return static + list(self.loaded_writable) + list(self.loaded_readonly)

    def pack(self) -> bytes:
        """The form in which very many of these fit into memory: a third of their size, and a single object."""
        return zlib.compress(msgspec.msgpack.encode(self), 1)


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One executed transaction. `err` is the TransactionError in its JSON form, None for success."""

    signature: bytes
    slot: int
    block_time: int
    err: object
    memo: str | None
    packed: bytes

    def detail(self) -> Detail:
        """What it did."""
        return msgspec.msgpack.decode(zlib.decompress(self.packed), type=Detail)


class Ledger:
    """Executed transactions in order, found by signature or by any address they name; bounded."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._next = 0
        self._oldest = 0
        self._records: dict[int, Record] = {}
        self._by_signature: dict[bytes, int] = {}
        self._by_address: dict[bytes, array[int]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: Record, keys: Iterable[bytes]) -> None:
        """Keep `record`, found by its signature and by each of `keys`."""
        place = self._next
        self._next += 1
        self._records[place] = record
        self._by_signature[record.signature] = place
        for key in set(keys):
            self._by_address.setdefault(key, array("Q")).append(place)
        if len(self._records) > self._limit:
            self._forget(max(1, self._limit // _SLICES))

    def get(self, signature: bytes) -> Record | None:
        """The transaction with this signature, if it is still known."""
        place = self._by_signature.get(signature)
        return None if place is None else self._records[place]

    def naming(self, address: bytes, *, before: bytes | None, until: bytes | None) -> Iterable[Record]:
        """Transactions that name `address`, newest first, strictly older than `before` and newer than `until`.

        As on a node, an unknown `before` finds nothing and an unknown `until` bounds nothing.
        """
        places = self._by_address.get(address, array("Q"))
        high, low = len(places), 0
        if before is not None:
            high = bisect_left(places, self._by_signature.get(before, 0))
        if until is not None and until in self._by_signature:
            low = bisect_right(places, self._by_signature[until])
        for at in range(high - 1, low - 1, -1):
            yield self._records[places[at]]

    def _forget(self, count: int) -> None:
        """Drop the `count` oldest; in slices, because dropping from the front of an index moves all of it."""
        floor = self._oldest + count
        touched: set[bytes] = set()
        for place in range(self._oldest, floor):
            record = self._records.pop(place)
            del self._by_signature[record.signature]
            touched.update(record.detail().account_keys())
        self._oldest = floor
        for key in touched:
            places = self._by_address[key]
            del places[: bisect_left(places, floor)]
            if not places:
                del self._by_address[key]


class UndoLog:
    """Accounts as they were before a slot changed them, for as long as that slot is not finalized."""

    def __init__(self) -> None:
        self._before: dict[Pubkey, list[tuple[int, Account | None]]] = {}
        self._order: deque[tuple[int, Pubkey]] = deque()

    def note(self, slot: int, address: Pubkey, before: Account | None) -> None:
        """Remember `before`, unless this slot has already changed the account."""
        log = self._before.setdefault(address, [])
        if not log or log[-1][0] < slot:
            log.append((slot, before))
            self._order.append((slot, address))

    def find(self, slot: int, address: Pubkey) -> tuple[bool, Account | None]:
        """(True, the account as of the end of `slot`), or (False, None) when nothing has changed it since."""
        log = self._before.get(address)
        if log is None:
            return False, None
        at = bisect_right(log, slot, key=lambda entry: entry[0])
        return (True, log[at][1]) if at < len(log) else (False, None)

    def prune(self, finalized: int) -> None:
        """Drop what no read at `finalized` or later can ask for."""
        while self._order and self._order[0][0] <= finalized:
            _, address = self._order.popleft()
            log = self._before[address]
            log.pop(0)
            if not log:
                del self._before[address]
