"""Benchmarks side by side against peers, as ratios within one run. Run ``scripts/bench.sh``; see README.md here."""
