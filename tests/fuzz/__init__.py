"""Mutated token requests against a real server, judged by a second reading of each (`make fuzz`)."""
