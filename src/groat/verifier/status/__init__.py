"""Whether a token was taken back: how that is heard of, and what follows while nobody can say."""
