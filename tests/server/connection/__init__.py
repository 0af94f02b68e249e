"""One connection: when it stays, when it ends, what it may hold."""
