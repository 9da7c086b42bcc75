"""A Solana chain: LiteSVM executes, and this file adds slots, blockhashes, commitment lag and records.

The virtual machine itself would accept only its newest blockhash and forgets transactions, so those checks are switched
off there and made here, as Agave's bank makes them.
"""

import hashlib
import os
from collections.abc import Sequence

from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTable
from solders.clock import Clock
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from sandbox import tokens
from sandbox.clock import SlotClock
from sandbox.execution import AnyMessage, Loaded, Simulation, error_of, inner_of, memo_of, return_data_of
from sandbox.ledger import DEFAULT_LIMIT, Balances, Detail, Ledger, Record, TokenBalance, UndoLog

GENESIS_HASH = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
"""Mainnet's, so that its first 32 characters agree with the CAIP-2 network that the sandbox speaks of."""

NETWORK = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"

BLOCKHASH_WINDOW = 150
"""Slots for which a blockhash stays usable; Agave's MAX_PROCESSING_AGE."""

SLOTS_PER_EPOCH = 432_000
FAUCET_LAMPORTS = 10**18

_PROGRAMS = frozenset(
    {
        tokens.SYSTEM_PROGRAM_ID,
        tokens.TOKEN_PROGRAM_ID,
        tokens.TOKEN_2022_PROGRAM_ID,
        tokens.ASSOCIATED_PROGRAM_ID,
        tokens.MEMO_PROGRAM_ID,
        tokens.COMPUTE_BUDGET_PROGRAM_ID,
    }
)


class Chain:
    """One run of the chain. Not thread-safe: every call belongs to one event loop.

    `confirmed_lag` and `finalized_lag` are slots behind the processed one. `nonce` makes the run's blockhashes, and so
    its signatures, differ from any other run's.
    """

    def __init__(
        self,
        clock: SlotClock,
        *,
        confirmed_lag: int = 1,
        finalized_lag: int = 32,
        record_limit: int = DEFAULT_LIMIT,
        nonce: bytes | None = None,
    ) -> None:
        self.clock = clock
        self.ledger = Ledger(record_limit)
        self._vm = LiteSVM().with_blockhash_check(False).with_sigverify(False).with_transaction_history(0)
        self._lag = {"processed": 0, "confirmed": confirmed_lag, "finalized": finalized_lag}
        self._nonce = nonce or os.urandom(16)
        self._issued: dict[Hash, int] = {}
        self._undo = UndoLog()
        self._by_owner: dict[bytes, dict[Pubkey, None]] = {}
        self._faucet = Keypair.from_seed(hashlib.sha256(b"faucet" + self._nonce).digest())
        self._airdrops = 0
        self._slot = -1
        self.set_account(self._faucet.pubkey(), Account(FAUCET_LAMPORTS, b"", tokens.SYSTEM_PROGRAM_ID))
        self.slot()

    # Slots and blockhashes

    def slot(self) -> int:
        """The processed slot. Every call first brings the virtual machine up to the present."""
        now = self.clock.slot()
        if now != self._slot:
            self._enter(now)
        return now

    def _enter(self, slot: int) -> None:
        self._slot = slot
        epoch = slot // SLOTS_PER_EPOCH
        self._vm.set_clock(
            Clock(
                slot=slot,
                epoch_start_timestamp=self.clock.block_time(self.clock.start_slot),
                epoch=epoch,
                leader_schedule_epoch=epoch + 1,
                unix_timestamp=self.clock.block_time(slot),
            )
        )
        self._undo.prune(slot - self._lag["finalized"])
        oldest = slot - BLOCKHASH_WINDOW - self._lag["finalized"]
        for known in [known for known, issued in self._issued.items() if issued < oldest]:
            del self._issued[known]

    def slot_at(self, commitment: str) -> int:
        """The newest slot with this commitment: processed, confirmed or finalized."""
        return self.slot() - self._lag[commitment]

    def latest_blockhash(self, commitment: str) -> tuple[Hash, int]:
        """The newest blockhash with this commitment, and its slot."""
        slot = self.slot_at(commitment)
        blockhash = Hash.from_bytes(hashlib.sha256(self._nonce + slot.to_bytes(8, "little")).digest())
        self._issued[blockhash] = slot
        return blockhash, slot

    def knows_blockhash(self, blockhash: Hash, slot: int) -> bool:
        """Whether a transaction with `blockhash` could enter the block of `slot`."""
        issued = self._issued.get(blockhash)
        return issued is not None and 0 <= slot - issued <= BLOCKHASH_WINDOW

    # Accounts

    def account(self, address: Pubkey, slot: int) -> Account | None:
        """The account as of the end of `slot` (no older than the finalized one); None when there is none."""
        changed, before = self._undo.find(slot, address)
        found = before if changed else self._vm.get_account(address)
        return found if found is not None and (found.lamports or found.data) else None

    def decimals_of(self, mint: bytes) -> int:
        """The decimals of a mint; 0 when it does not exist."""
        found = self._vm.get_account(Pubkey.from_bytes(mint))
        return tokens.mint_decimals(found) if found is not None and tokens.is_mint(found) else 0

    def token_accounts_of(self, owner: bytes) -> Sequence[Pubkey]:
        """Accounts that are or once were token accounts of `owner`: read each before believing it."""
        return tuple(self._by_owner.get(owner, ()))

    def set_account(self, address: Pubkey, account: Account) -> None:
        """Write genesis state past the runtime. Not recorded: only for a chain that nobody has read yet."""
        self._vm.set_account(address, account)
        self._index(address, account)

    def rent_exemption(self, data_length: int) -> int:
        """Lamports that exempt an account of this many bytes from rent."""
        return self._vm.minimum_balance_for_rent_exemption(data_length)

    def _index(self, address: Pubkey, account: Account | None) -> None:
        held = tokens.read_token_account(account) if account is not None else None
        if held is not None:
            self._by_owner.setdefault(held.owner, {})[address] = None

    # Transactions

    def objection(self, transaction: VersionedTransaction, *, signatures: bool = True) -> str | None:
        """Why a bank would not even execute the transaction, as a TransactionError's name; None when it would."""
        if signatures and not all(transaction.verify_with_results()):
            return "SignatureFailure"
        if self.ledger.get(bytes(transaction.signatures[0])) is not None:
            return "AlreadyProcessed"
        if not self.knows_blockhash(transaction.message.recent_blockhash, self.slot()):
            return "BlockhashNotFound"
        return None

    def simulate(self, transaction: VersionedTransaction) -> Simulation:
        """Execute on the present state and forget the effects; the checks of `objection` are the caller's."""
        self.slot()
        result = self._vm.simulate_transaction(transaction)
        meta = result.meta()
        return Simulation(
            err=error_of(result) if isinstance(result, FailedTransactionMetadata) else None,
            logs=tuple(meta.logs()),
            units=meta.compute_units_consumed(),
            fee=meta.fee(),
            return_data=return_data_of(meta),
            inner=inner_of(meta),
            accounts={} if isinstance(result, FailedTransactionMetadata) else dict(result.post_accounts()),
        )

    def execute(self, transaction: VersionedTransaction) -> Record | None:
        """Execute and record; None when the transaction is dropped before execution, as by a real leader."""
        slot = self.slot()
        loaded = self._load(transaction.message)
        if self.objection(transaction) is not None or loaded is None:
            return None
        accounts = [self._vm.get_account(key) if key not in _PROGRAMS else None for key in loaded.keys]
        before = self._balances(loaded, accounts)
        result = self._vm.send_transaction(transaction)
        meta = result.meta() if isinstance(result, FailedTransactionMetadata) else result
        if meta.signature() != transaction.signatures[0]:
            return None  # LiteSVM's mark of a transaction that it rejected unexecuted: no fee, no record
        changed = [self._vm.get_account(key) if key not in _PROGRAMS else None for key in loaded.keys]
        self._note_changes(slot, loaded, accounts, changed)
        after = self._balances(loaded, changed)
        err = error_of(result) if isinstance(result, FailedTransactionMetadata) else None
        record = self._record(transaction, loaded, meta, err, (before, after))
        self.ledger.append(record, (bytes(key) for key in loaded.keys))
        return record

    def airdrop(self, to: Pubkey, lamports: int) -> VersionedTransaction:
        """A signed transfer from the faucet. The memo keeps two alike from being one."""
        self._airdrops += 1
        payer = self._faucet.pubkey()
        instructions = [
            transfer(TransferParams(from_pubkey=payer, to_pubkey=to, lamports=lamports)),
            Instruction(tokens.MEMO_PROGRAM_ID, b"airdrop %d" % self._airdrops, []),
        ]
        blockhash, _ = self.latest_blockhash("processed")
        message = Message.new_with_blockhash(instructions, payer, blockhash)
        return VersionedTransaction(message, [self._faucet])

    def _load(self, message: AnyMessage) -> Loaded | None:
        """The message's account keys with those of its lookup tables; None when a table cannot be read."""
        static = list(message.account_keys)
        writable: list[Pubkey] = []
        readonly: list[Pubkey] = []
        for lookup in message.address_table_lookups if isinstance(message, MessageV0) else ():
            table = self._vm.get_account(lookup.account_key)
            try:
                addresses = AddressLookupTable.deserialize(table.data).addresses if table is not None else []
                writable += [addresses[at] for at in bytes(lookup.writable_indexes)]
                readonly += [addresses[at] for at in bytes(lookup.readonly_indexes)]
            except (ValueError, IndexError):
                return None
        return Loaded(static=static, writable=writable, readonly=readonly)

    def _balances(self, loaded: Loaded, accounts: Sequence[Account | None]) -> Balances:
        held = []
        for index, account in enumerate(accounts):
            token = tokens.read_token_account(account) if account is not None else None
            if account is not None and token is not None:
                held.append(
                    TokenBalance(
                        index=index,
                        mint=token.mint,
                        owner=token.owner,
                        program=bytes(account.owner),
                        amount=token.amount,
                        decimals=self.decimals_of(token.mint),
                    )
                )
        lamports = (
            account.lamports if account is not None else self._vm.get_balance(key) or 0
            for key, account in zip(loaded.keys, accounts, strict=True)
        )
        return Balances(lamports=tuple(lamports), tokens=tuple(held))

    def _note_changes(
        self, slot: int, loaded: Loaded, before: Sequence[Account | None], after: Sequence[Account | None]
    ) -> None:
        for key, old, new in zip(loaded.keys, before, after, strict=True):
            if old != new:
                self._undo.note(slot, key, old)
                self._index(key, new)

    def _record(
        self,
        transaction: VersionedTransaction,
        loaded: Loaded,
        meta: TransactionMetadata,
        err: object,
        balances: tuple[Balances, Balances],
    ) -> Record:
        detail = Detail(
            wire=bytes(transaction),
            loaded_writable=tuple(bytes(key) for key in loaded.writable),
            loaded_readonly=tuple(bytes(key) for key in loaded.readonly),
            fee=meta.fee(),
            units=meta.compute_units_consumed(),
            before=balances[0],
            after=balances[1],
            logs=tuple(meta.logs()),
            inner=inner_of(meta),
            return_data=return_data_of(meta),
        )
        return Record(
            signature=bytes(transaction.signatures[0]),
            slot=self._slot,
            block_time=self.clock.block_time(self._slot),
            err=err,
            memo=memo_of(transaction.message),
            packed=detail.pack(),
        )
