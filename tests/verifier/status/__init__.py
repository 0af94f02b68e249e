"""Hearing that tokens were taken back: lists, the feed, questions."""
