"""`groat guard serve`: a proxy asks it before every request whether the caller may pass (forward-auth)."""
