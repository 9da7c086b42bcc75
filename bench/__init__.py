"""Benches: each prints one JSON object per line. See docs/benchmarks.md; none is part of what is installed."""
