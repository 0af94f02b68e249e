"""The authorization server: the token endpoint, discovery, and the operations on what it remembers."""
