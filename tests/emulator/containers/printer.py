"""A training program that prints what logs are broken by: the hyperparameter `mode` says what.

`oddities`, `long` and `streams` are what `oddities()`, `long_lines()` and `streams()` give. `slow` prints
numbered lines, one at a time, some of them of 20 KB, until there is a file `end` in its channel; on SIGTERM it ends
with a line that has no end. What it has printed is in output/data/printed.
"""

import json
import os
import pathlib
import signal
import sys
import time

PIECE = 16 * 1024  # what docker takes of a line at once
EVENT = 256 * 1024 - 26  # CloudWatch's largest event
MOST_STEPS = 6000  # nobody is there to let it end
TOLD = b"told to end, without a line's end"


def oddities():
    """Lines of a few bytes to a few pieces, the last one without an end."""
    stamp = b"2026-01-02T03:04:05.678901234Z "
    lines = [b"plain", b"", b"", b" blanks at both ends \t ", b"carriage\rreturn\r", b"windows\r", b"\r", b"\r\r"]
    lines += [b"\x1b[31mred\x1b[0m", b"nul\0inside", b"\xff\xfe\xe2\x82 no UTF-8", "grüße 🐕\u2028\x85".encode()]
    lines += [stamp + b"looks like docker's own", stamp.rstrip(), stamp, b'{"timestamp": 1, "message": "x"}']
    for size in (PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1):
        lines += [numbered(size), stamp + numbered(size)[len(stamp) :], b"x" * size]
    lines += ["x" * shift + "🐕" * 5000 for shift in range(4)]  # a piece ends within a character
    lines += [b"y" * 3 * PIECE + b"\r", b"z" * 40_000 + stamp + b"z" * 40_000, b"the end has none"]
    return b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)


def long_lines():
    """Lines about CloudWatch's limit and far above."""
    sizes = (EVENT - 1, EVENT, EVENT + 1, 2 * EVENT, 3_000_000)
    states = b"".join(b"\rstate %d of a bar" % number for number in range(40_000))
    others = [("x" + "é" * 300_000).encode(), b"\xff" * 300_000, states, b"short"]
    return b"\n".join([*map(numbered, sizes), *others]) + b"\n"


def streams():
    """(stream, bytes): lines of both, begun in one while the other's are not ended."""
    for number in range(200):
        yield 1, b"o%d " % number + b"a" * (number * 200)
        yield 2, b"e%d " % number + b"b" * (number * 211)
        yield 1, b"\n"
        yield 2, b"\n"


def numbered(size):
    """A line in which every place is another."""
    return b" ".join(b"%d" % number for number in range(size // 2))[:size]


def write(stream, data):
    while data:
        data = data[os.write(stream, data) :]


def slow(printed, end):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    life = printed.stat().st_size if printed.exists() else 0
    step = 0
    with printed.open("ab", buffering=0) as record:
        while not (told or end.exists() or step > MOST_STEPS):
            line = b"life %d step=%d " % (life, step) + numbered(20_000 if step % 10 == 9 else 20) + b"\n"
            write(1, line)
            record.write(line)
            step += 1
            time.sleep(0.05)
        if told:
            write(1, TOLD)
            record.write(TOLD)


def main():
    base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    given = json.loads((base / "input/config/hyperparameters.json").read_text())
    if given["mode"] == "slow":
        slow(base / "output/data/printed", base / "input/data/train/end")
    elif given["mode"] == "streams":
        for stream, data in streams():
            write(stream, data)
    elif given["mode"] == "variables":
        write(1, json.dumps({name: value for name, value in os.environ.items() if name.startswith("MY_")}).encode())
    else:
        write(1, {"oddities": oddities, "long": long_lines}[given["mode"]]())
    (base / "model/made").write_text("here")


if __name__ == "__main__":
    sys.exit(main())
