"""The signing keys together: which of them sign, when they change, and what must always hold."""
