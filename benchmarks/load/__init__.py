"""Load generation for the token endpoint: request bodies, wrk, and the cost of the processes under load."""
