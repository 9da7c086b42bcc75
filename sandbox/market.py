"""What the market data API sells: prices and order books that nobody should trade on."""

from sandbox.prices import START_TICKS, RandomWalk, dollars
from sandbox.seller import Catalogue, Product
from sandbox.troubles import cheating_acts

SYMBOLS = tuple(START_TICKS)


def market_catalogue(seed: int) -> Catalogue:
    """The market of a seed."""
    walks = {symbol: RandomWalk(seed, symbol) for symbol in SYMBOLS}
    products = (
        Product(
            name="price",
            price=1000,
            description="The latest price in dollars",
            make=lambda symbol: {"price": dollars(walks[symbol].step())},
        ),
        Product(
            name="orderbook",
            price=2500,
            description="Five levels of bids and asks",
            make=lambda symbol: walks[symbol].book(),
        ),
        Product(
            name="cheat",
            price=1500,
            description="The latest price, from a seller who does not always keep his word",
            make=lambda symbol: {"price": dollars(walks[symbol].step())},
            acts=cheating_acts(seed),
            trouble="takes the money and answers 500, nothing at all, or the goods without a settlement",
        ),
    )
    return Catalogue(
        title="Sandbox market data",
        item="symbol",
        items=SYMBOLS,
        spell=str.upper,
        products={product.name: product for product in products},
    )
