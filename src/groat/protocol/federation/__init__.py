"""Tokens of other issuers: whom an operator trusts, for what, and which client a workload is by its rules."""
