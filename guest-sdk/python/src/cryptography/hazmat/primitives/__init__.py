"""Algorithms and keys."""
