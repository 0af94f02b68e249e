"""The demo, run as people run it."""
