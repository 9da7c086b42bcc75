"""The daemon: samples balances from Solana and runs the periodic jobs."""
