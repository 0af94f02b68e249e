"""What is served: one module for each endpoint or each few of a kind; app.py says at which path."""
