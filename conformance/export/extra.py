"""What is raised where a format needs something that isn't installed."""

from __future__ import annotations

from conformance.complaint import UNABLE, Complaint


class MissingExtra(Complaint):
    """An optional dependency isn't installed; the message names the remedy."""

    status = UNABLE
