"""The authorization server, attacked over real HTTP."""
