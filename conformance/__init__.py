"""Asks implementations of classification losses for their answers and judges them against `refimpl`."""
