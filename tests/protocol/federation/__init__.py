"""Tokens of other issuers: the pure rules."""
