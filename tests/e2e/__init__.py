"""Whole processes, real sockets, a real chain: what an operator would see."""
