"""lossref-protocol/1: how a program in any language is asked, in lines of JSON; `docs/protocol.md` is its reference.

`messages` makes the judge's lines and reads the program's, `tensors` those of their parts that hold numbers, `description` the
program's reply to hello. `schema.json` says what every message may be.
"""
