"""Tests of groat.verifier.keys."""
