"""One HTTP request: who asks and from where, what is read of it, how it is answered, and what it may cost."""
