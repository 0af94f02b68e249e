"""groat against other people's clients, verifiers and servers, all of them running for real."""
