"""Tests of groat.serving."""
