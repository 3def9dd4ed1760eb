"""Primitives, by the names under which libraries import them."""
