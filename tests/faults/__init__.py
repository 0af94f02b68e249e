"""Faults and load: the promises of docs/reliability.md, tried on real processes and judged by one checker."""
