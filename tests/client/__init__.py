"""Tests of groat.client over real sockets."""
