"""A program that speaks lossref-protocol/1 and misbehaves as the first logit of a case tells it to; see `test_program.py`.

It knows the log-softmax of one row of float64 numbers, and leans on the standard library alone.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

DESCRIPTION: Message = {
    "protocol": "lossref-protocol/1",
    "name": "hostile",
    "operations": ["log_softmax"],
    "promises": {"float64": {"accuracy": "A"}},
}


def tensor(values: list[float], dtype: str = "float64") -> Message:
    return {"dtype": dtype, "shape": [1, len(values)], "data": struct.pack(f"<{len(values)}d", *values).hex()}


def numbers(said: Message) -> tuple[float, ...]:
    return struct.unpack(f"<{said['shape'][1]}d", bytes.fromhex(said["data"]))


def right(request: Message) -> Message:
    x, g = numbers(request["inputs"]["logits"]), numbers(request["cotangent"])
    top = max(x)
    lse = math.log1p(sum(math.exp(v - top) for i, v in enumerate(x) if i != x.index(top)))
    y = [v - top - lse for v in x]
    gradient = [one - math.exp(v) * sum(g) for one, v in zip(g, y, strict=True)]
    return {"id": request["id"], "output": tensor(y), "gradients": {"logits": tensor(gradient)}}


def say(message: Message) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """Text that is no message of its own."""
    sys.stdout.write(text)
    sys.stdout.flush()


def sleep() -> None:
    time.sleep(3600)


def honest(request: Message) -> None:
    say(right(request))


def no_json(request: Message) -> None:
    write("the loss is 0.3\n")


def no_object(request: Message) -> None:
    write("[1, 2]\n")


def no_number(request: Message) -> None:
    write('{"id": NaN}\n')


def deep(request: Message) -> None:
    write("[" * 100_000 + "\n")


def no_text(request: Message) -> None:
    sys.stdout.buffer.write(b"\xff\xfe\n")
    sys.stdout.flush()


def half_a_line(request: Message) -> None:
    write(json.dumps(right(request))[:40])
    sleep()


def half_a_line_and_exit(request: Message) -> None:
    write(json.dumps(right(request))[:40])
    sys.exit(0)


def silent(request: Message) -> None:
    sleep()


def leave(request: Message) -> None:
    sys.stderr.write("out of luck\n")
    sys.exit(7)


def abort(request: Message) -> None:
    os.abort()


def another_id(request: Message) -> None:
    say({**right(request), "id": request["id"] + 5})


def twice(request: Message) -> None:
    say(right(request))
    say(right(request))


def nothing_said(request: Message) -> None:
    say({"id": request["id"]})


def both_said(request: Message) -> None:
    say({**right(request), "error": "and yet"})


def no_such_dtype(request: Message) -> None:
    say({**right(request), "output": {**right(request)["output"], "dtype": "float80"}})


def short_data(request: Message) -> None:
    said = right(request)
    said["gradients"]["logits"]["data"] = said["gradients"]["logits"]["data"][:-16]
    say(said)


def no_digits(request: Message) -> None:
    said = right(request)
    said["output"]["data"] = "xy" * 24
    say(said)


def no_file(request: Message) -> None:
    say({**right(request), "output": {"dtype": "float64", "shape": [1, 3], "file": "nowhere.bin"}})


def device(request: Message) -> None:
    say({**right(request), "output": {"dtype": "float64", "shape": [1, 3], "file": "/dev/zero"}})


def huge(request: Message) -> None:
    say({**right(request), "output": {"dtype": "float64", "shape": [1 << 31, 3], "data": ""}})


def flood(request: Message) -> None:
    for _ in range(1600):
        write("x" * 65536)  # 100 MB in one line
    sleep()


def flood_of_lines(request: Message) -> None:
    for _ in range(1600):
        write("noise\n" * 10923)
    sleep()


def stop_listening(request: Message) -> None:
    os.close(0)
    say(right(request))
    sleep()


def wrong_dtype(request: Message) -> None:
    said = right(request)
    values = numbers(said["output"])
    said["output"] = {"dtype": "float32", "shape": [1, 3], "data": struct.pack("<3f", *values).hex()}
    say(said)


def wrong_shape(request: Message) -> None:
    said = right(request)
    said["output"]["shape"] = [3, 1]
    say(said)


def nans(request: Message) -> None:
    say({"id": request["id"], "output": tensor([math.nan] * 3), "gradients": {"logits": tensor([math.nan] * 3)}})


def changed(request: Message) -> None:
    say({**right(request), "modified": ["logits"]})


def different(request: Message) -> None:
    said = right(request)
    said["output"] = tensor(
        [value * (1.0 + random.randrange(1, 1 << 40) * 2.0**-80) - random.random() * 1e-9 for value in numbers(said["output"])]
    )
    say(said)


def error(request: Message) -> None:
    say({"id": request["id"], "error": "not today\x1b[31m\nand a second line"})


def refuse(request: Message) -> None:
    say({"id": request["id"], "unsupported": "it lacks this value"})


def mutter(request: Message) -> None:
    for _ in range(1600):
        sys.stderr.write("x" * 65535 + "\n")  # 100 MB
    say(right(request))


def leave_a_child(request: Message) -> None:
    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    say(right(request))


def extra_field(request: Message) -> None:
    say({**right(request), "comment": "fast"})


BEHAVIOURS: dict[str, Callable[[Message], None]] = {
    one.__name__: one
    for one in (
        honest, no_json, no_object, no_number, deep, no_text, half_a_line, half_a_line_and_exit, silent, leave, abort, another_id, twice,
        nothing_said, both_said, no_such_dtype, short_data, no_digits, no_file, device, huge, flood, flood_of_lines, stop_listening,
        wrong_dtype, wrong_shape, nans, changed, different, error, refuse, mutter, leave_a_child, extra_field,
    )
}  # fmt: skip

# What its first line is, by its argument.
GREETINGS: dict[str, Callable[[], None]] = {
    "right": lambda: say(DESCRIPTION),
    "no_json": lambda: write("hello to you\n"),
    "other_protocol": lambda: say({**DESCRIPTION, "protocol": "lossref-protocol/9"}),
    "no_operation": lambda: say({**DESCRIPTION, "operations": ["hinge"]}),
    "no_accuracy": lambda: say({**DESCRIPTION, "promises": {"float32": {"accuracy": "Z"}}}),
    "no_dialect": lambda: say({**DESCRIPTION, "dialect": "klingon"}),
    "no_choice": lambda: say({**DESCRIPTION, "dialect": {"refusal": "maybe"}}),
    "flood": lambda: write("x" * 3_000_000),
    "exit": lambda: sys.exit(4),
}


def main() -> None:
    GREETINGS[sys.argv[1]]()
    for line in sys.stdin:
        request = json.loads(line)
        if request["cmd"] == "stop":
            return
        if request["cmd"] == "run":
            list(BEHAVIOURS.values())[int(numbers(request["inputs"]["logits"])[0])](request)


if __name__ == "__main__":
    main()
