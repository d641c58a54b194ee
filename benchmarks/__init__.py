"""Benchmarks side by side against peers, as ratios of one run. Start with ``scripts/bench.sh``; see README.md here."""
