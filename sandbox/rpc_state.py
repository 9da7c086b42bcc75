"""RPC methods that read the chain's state: slots, blockhashes, accounts and tokens."""

from collections.abc import Callable, Mapping

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox import tokens
from sandbox.chain import BLOCKHASH_WINDOW, GENESIS_HASH, Chain
from sandbox.encode_account import View, encode_account
from sandbox.errors import RpcFault
from sandbox.params import COMMITMENTS, Config, Params, invalid, read_pubkey

Method = Callable[[Params], object]

API_VERSION = "3.0.0"
MAX_ACCOUNTS = 100
MAX_DATA_LENGTH = 10 * 1024 * 1024
ACCOUNT_ENCODINGS = ("base58", "base64", "jsonParsed", "binary")


def read_slot(chain: Chain, config: Config) -> int:
    """The slot that a read with this config sees; -32016 when it is older than the caller demands.

    The data member is always there: clients built on solders crash without it.
    """
    slot = chain.slot_at(config.commitment())
    wanted = config.integer("minContextSlot")
    if wanted is not None and wanted > slot:
        raise RpcFault(-32016, "Minimum context slot has not been reached", {"contextSlot": slot})
    return slot


def in_context(slot: int, value: object) -> dict[str, object]:
    """A value with the slot at which it held."""
    return {"context": {"apiVersion": API_VERSION, "slot": slot}, "value": value}


def read_view(config: Config, default: str) -> View:
    """How the caller wants account data."""
    encoding = config.choice("encoding", ACCOUNT_ENCODINGS, default)
    cut = config.config("dataSlice")
    if cut is None:
        return View(encoding=encoding)
    offset, length = cut.integer("offset"), cut.integer("length")
    if offset is None or length is None:
        raise invalid("Invalid params: dataSlice needs offset and length.")
    return View(encoding=encoding, offset=offset, length=length)


class StateMethods:
    """Every method that changes nothing and knows no transactions."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def table(self) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            "getHealth": lambda _: "ok",
            "getVersion": lambda _: {"solana-core": API_VERSION, "feature-set": 0},
            "getGenesisHash": lambda _: GENESIS_HASH,
            "getSlot": self._slot,
            "getBlockHeight": self._slot,
            "getLatestBlockhash": self._latest_blockhash,
            "isBlockhashValid": self._is_blockhash_valid,
            "getBalance": self._balance,
            "getAccountInfo": self._account_info,
            "getMultipleAccounts": self._multiple_accounts,
            "getMinimumBalanceForRentExemption": self._rent_exemption,
            "getTokenAccountBalance": self._token_balance,
            "getTokenAccountsByOwner": self._token_accounts,
            "getTokenSupply": self._token_supply,
        }

    def _slot(self, params: Params) -> int:
        """Also the block height: no slot of this chain is ever skipped."""
        return read_slot(self._chain, params.config(0))

    def _latest_blockhash(self, params: Params) -> object:
        config = params.config(0)
        read_slot(self._chain, config)
        blockhash, slot = self._chain.latest_blockhash(config.commitment())
        return in_context(slot, {"blockhash": str(blockhash), "lastValidBlockHeight": slot + BLOCKHASH_WINDOW})

    def _is_blockhash_valid(self, params: Params) -> object:
        blockhash = params.blockhash(0)
        slot = read_slot(self._chain, params.config(1))
        return in_context(slot, self._chain.knows_blockhash(blockhash, slot))

    def _balance(self, params: Params) -> object:
        address = params.pubkey(0)
        slot = read_slot(self._chain, params.config(1))
        account = self._chain.account(address, slot)
        return in_context(slot, account.lamports if account is not None else 0)

    def _account_info(self, params: Params) -> object:
        address, config = params.pubkey(0), params.config(1)
        view = read_view(config, "binary")
        slot = read_slot(self._chain, config)
        return in_context(slot, self._encode(address, slot, view))

    def _multiple_accounts(self, params: Params) -> object:
        addresses = [read_pubkey(one) for one in params.items(0, most=MAX_ACCOUNTS)]
        config = params.config(1)
        view = read_view(config, "base64")
        slot = read_slot(self._chain, config)
        return in_context(slot, [self._encode(address, slot, view) for address in addresses])

    def _rent_exemption(self, params: Params) -> int:
        length = params.integer(0, high=MAX_DATA_LENGTH)
        params.config(1).choice("commitment", COMMITMENTS, "finalized")
        return self._chain.rent_exemption(length)

    def _token_balance(self, params: Params) -> object:
        address = params.pubkey(0)
        slot = read_slot(self._chain, params.config(1))
        account = self._chain.account(address, slot)
        if account is None:
            raise invalid("Invalid param: could not find account")
        held = tokens.read_token_account(account)
        if held is None:
            raise invalid("Invalid param: not a Token account")
        return in_context(slot, tokens.ui_amount(held.amount, self._chain.decimals_of(held.mint)))

    def _token_accounts(self, params: Params) -> object:
        owner, wanted, config = params.pubkey(0), params.config(1), params.config(2)
        params.required(1)
        view = read_view(config, "binary")
        slot = read_slot(self._chain, config)
        accept = self._filter(wanted, slot)
        found = []
        for address in self._chain.token_accounts_of(bytes(owner)):
            account = self._chain.account(address, slot)
            held = tokens.read_token_account(account) if account is not None else None
            if account is not None and held is not None and held.owner == bytes(owner) and accept(account, held):
                found.append({"pubkey": str(address), "account": self._encode(address, slot, view)})
        return in_context(slot, found)

    def _filter(self, wanted: Config, slot: int) -> Callable[[Account, tokens.TokenAccount], bool]:
        mint, program = wanted.pubkey("mint"), wanted.pubkey("programId")
        if (mint is None) == (program is None):
            raise invalid("Invalid params: give either mint or programId.")
        if mint is not None:
            account = self._chain.account(mint, slot)
            if account is None or not tokens.is_mint(account):
                raise invalid("Invalid param: could not find mint")
            return lambda _, held: held.mint == bytes(mint)
        if program not in tokens.TOKEN_PROGRAMS:
            raise invalid("Invalid param: unrecognized Token program id")
        return lambda account, _: account.owner == program

    def _token_supply(self, params: Params) -> object:
        mint = params.pubkey(0)
        slot = read_slot(self._chain, params.config(1))
        account = self._chain.account(mint, slot)
        if account is None:
            raise invalid("Invalid param: could not find account")
        if not tokens.is_mint(account):
            raise invalid("Invalid param: not a Token mint")
        supply = tokens.ui_amount(tokens.mint_supply(account), tokens.mint_decimals(account))
        return in_context(slot, supply)

    def _encode(self, address: Pubkey, slot: int, view: View) -> object:
        return encode_account(self._chain.account(address, slot), view, self._chain.decimals_of)
