"""groat: machine-to-machine OAuth 2.0, self-hosted."""

__version__ = "0.1.0"
