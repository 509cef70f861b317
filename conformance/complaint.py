"""Exit statuses, and the errors that speak to a user: a sentence on what is wrong and what to do, and the status that goes with it.

0 all as promised or as expected; 1 something fell short, or an expectation no longer holds; 2 wrong usage or bad input; 3 a backend
isn't installed or the suite could not run; 130 interrupted.
"""

from __future__ import annotations

FINE, SHORT, BAD, UNABLE, INTERRUPTED = 0, 1, 2, 3, 130


class Complaint(Exception):
    """An error whose message is all that a user needs: the command line prints it, without a traceback, and ends with its `status`."""

    status = BAD
