"""A socket's bytes on one side, one ASGI request at a time on the other: what stands between them, and its bounds."""
