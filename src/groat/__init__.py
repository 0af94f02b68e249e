"""groat: machine-to-machine OAuth 2.0, self-hosted.

PYTEST_DONT_REWRITE: the distribution has a plugin for pytest, which would warn where groat was imported before it.
"""

__version__ = "0.1.0"
