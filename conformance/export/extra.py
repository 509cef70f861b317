"""What is raised where a format needs something that isn't installed."""

from __future__ import annotations


class MissingExtra(Exception):
    """An optional dependency isn't installed; the message names the remedy."""
