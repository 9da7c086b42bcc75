"""The two tokens of the sandbox and the account layouts of SPL Token and Token-2022.

Layouts: `interface/src/state.rs` of solana-program/token and `extension/mod.rs` of solana-program/token-2022: a mint is
82 bytes, a token account 165; Token-2022 appends a byte of account type and type-length-value extensions.
"""

from dataclasses import dataclass

from solders.account import Account
from solders.pubkey import Pubkey
from spl.token import constants

SYSTEM_PROGRAM_ID = Pubkey.default()
TOKEN_PROGRAM_ID = constants.TOKEN_PROGRAM_ID
TOKEN_2022_PROGRAM_ID = constants.TOKEN_2022_PROGRAM_ID
ASSOCIATED_PROGRAM_ID = constants.ASSOCIATED_TOKEN_PROGRAM_ID
MEMO_PROGRAM_ID = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
COMPUTE_BUDGET_PROGRAM_ID = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
TOKEN_PROGRAMS = (TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID)

MINT_LEN = 82
TOKEN_ACCOUNT_LEN = 165
_TYPE_MINT, _TYPE_ACCOUNT = 1, 2
_IMMUTABLE_OWNER = b"\x07\x00\x00\x00"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A token of the sandbox: its symbol, mint, owning program and decimals."""

    symbol: str
    mint: Pubkey
    program: Pubkey
    decimals: int = 6

    def account_of(self, owner: Pubkey) -> Pubkey:
        """The associated token account of `owner`; it depends on the token program."""
        seeds = [bytes(owner), bytes(self.program), bytes(self.mint)]
        return Pubkey.find_program_address(seeds, ASSOCIATED_PROGRAM_ID)[0]


USDC = Asset(
    symbol="USDC",
    mint=Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    program=TOKEN_PROGRAM_ID,
)
CASH = Asset(
    symbol="CASH",
    mint=Pubkey.from_string("CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH"),
    program=TOKEN_2022_PROGRAM_ID,
)
ASSETS = {str(asset.mint): asset for asset in (USDC, CASH)}


@dataclass(frozen=True, kw_only=True)
class TokenAccount:
    """The first three fields of a token account; `mint` and `owner` are 32 raw bytes, `amount` is atomic units."""

    mint: bytes
    owner: bytes
    amount: int


def read_token_account(account: Account) -> TokenAccount | None:
    """The token account in `account`, or None when it is something else or not initialised."""
    if account.owner not in TOKEN_PROGRAMS:
        return None
    data = account.data
    plain = len(data) == TOKEN_ACCOUNT_LEN
    extended = len(data) > TOKEN_ACCOUNT_LEN and data[TOKEN_ACCOUNT_LEN] == _TYPE_ACCOUNT
    if not (plain or extended) or data[108] == 0:
        return None
    return TokenAccount(mint=data[:32], owner=data[32:64], amount=int.from_bytes(data[64:72], "little"))


def is_mint(account: Account) -> bool:
    """Whether `account` is an initialised mint."""
    if account.owner not in TOKEN_PROGRAMS:
        return False
    data = account.data
    extended = len(data) > TOKEN_ACCOUNT_LEN and data[TOKEN_ACCOUNT_LEN] == _TYPE_MINT
    return (len(data) == MINT_LEN or extended) and data[45] == 1


def mint_decimals(account: Account) -> int:
    """The decimals of a mint."""
    return account.data[44]


def mint_supply(account: Account) -> int:
    """The supply of a mint in atomic units."""
    return int.from_bytes(account.data[36:44], "little")


def pack_mint(authority: Pubkey, supply: int, decimals: int) -> bytes:
    """82 bytes of an initialised mint without a freeze authority."""
    return b"\x01\0\0\0" + bytes(authority) + supply.to_bytes(8, "little") + bytes([decimals, 1]) + bytes(36)


def pack_token_account(asset: Asset, owner: Pubkey, amount: int) -> bytes:
    """An initialised token account; Token-2022's carry the ImmutableOwner extension, as the ATA program makes them."""
    head = bytes(asset.mint) + bytes(owner) + amount.to_bytes(8, "little")
    base = head + bytes(36) + b"\x01" + bytes(56)
    return base + bytes([_TYPE_ACCOUNT]) + _IMMUTABLE_OWNER if asset.program == TOKEN_2022_PROGRAM_ID else base


def ui_amount(amount: int, decimals: int) -> dict[str, object]:
    """Agave's UiTokenAmount: the exact string, the decimals, and the two friendlier forms."""
    whole, part = divmod(amount, 10**decimals)
    exact = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": amount / 10**decimals,
        "uiAmountString": exact,
    }
