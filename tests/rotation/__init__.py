"""Rotation that runs by itself: its schedule, its proofs, and its behaviour under load."""
