"""The sandbox: an offline world in which agents pay for APIs with x402 on a real Solana virtual machine.

It is a process of its own (`python -m sandbox`) and knows Tollwatch only by its public HTTP API. The way money takes:

    stories/ ──► purchase.py ──► seller.py ──► facilitator.py ──► rpc.py ──► chain.py
                     │          (market.py, knowledge.py)            ▲
                     └─► voice.py ──► tollwatch ──► Tollwatch        └── funding.py

`stories/` is what the agents of profiles.py live through; what sellers do to them on purpose is in troubles.py, and
what really happened is in each agent's diary.py, shown by books.py. `world.py` wires the parts together and is what
tests use; `__main__.py` is the command line and the process's life.
"""
