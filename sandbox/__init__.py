"""The sandbox: an offline world in which agents pay for APIs with x402 on a real Solana virtual machine.

It is a process of its own (`python -m sandbox`) and knows Tollwatch only by its public HTTP API. The way money takes:

    agents.py ──► purchase.py ──► market.py ──► facilitator.py ──► rpc.py ──► chain.py
                     │
                     └─► events.py ──► reporter.py ──► Tollwatch

`world.py` wires the parts together and is what tests use; `__main__.py` is the command line and the process's life.
"""
