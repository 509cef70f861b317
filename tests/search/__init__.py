"""The search for the inputs on which the reference is worst: |true error| / radius, against ball arithmetic.

`measure` knows the error of an element, `blocks` and `calls` what is searched (the building blocks of the arithmetic; every operation's
output and gradients), `mutate` and `climb` how, `record` what is kept (`tests/worst.json`), `deep` the long run, `rounding` how often the
exact form is asked, and `table` what of all that stands in `docs/accuracy.md`.
"""
