"""The operations as JSON over HTTP, on the admin listener: who may ask, the paths, what they take and give."""
