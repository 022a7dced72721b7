"""What the Python programs share: the arguments, the list of patterns, one printed line for each.

Called as `PROGRAM URL PREFIX`; every name made on the broker starts with PREFIX.
"""

import asyncio
import inspect
import os
import signal
import sys
import time
from urllib.parse import unquote, urlsplit

URL, PREFIX = sys.argv[1], sys.argv[2]
LIMIT = 20  # seconds for one pattern
PARTS = urlsplit(URL)
HOST = f"{PARTS.hostname}:{PARTS.port or 5672}"
USER, PASSWORD = unquote(PARTS.username or "guest"), unquote(PARTS.password or "guest")
VHOST = unquote(PARTS.path[1:]) or "/"
BIG = os.urandom(1 << 20)
PATTERNS = {}


def name(suffix):
    return f"{PREFIX}.{suffix}"


def pattern(title):
    def add(function):
        PATTERNS[title] = function
        return function

    return add


def not_offered(title, why):
    PATTERNS[title] = why


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}: got {got!r:.300}, expected {want!r:.300}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_until(done, step, seconds=8, what="the expected messages"):
    """Call step() until done() holds; step() waits for a short while on the socket."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"{what} not seen within {seconds} s")
        step()


def with_heartbeat(seconds):
    return URL + ("&" if "?" in URL else "?") + f"heartbeat={seconds}"


def timed_out(*_):
    raise TimeoutError(f"pattern not finished within {LIMIT} s")


def run_one(title, function):
    if isinstance(function, str):
        return f"not offered {title}: {function}"
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(asyncio.wait_for(function(), LIMIT))
        else:
            signal.alarm(LIMIT)
            function()
        return f"ok {title}"
    except Exception as error:  # the reason goes to the table, whatever it is
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        return f"FAILED {title}: {reason}"
    finally:
        signal.alarm(0)


def main(version):
    signal.signal(signal.SIGALRM, timed_out)
    print(f"version {version}", flush=True)
    lines = []
    for title, function in PATTERNS.items():
        lines.append(run_one(title, function))
        print(lines[-1], flush=True)
    sys.exit(any(line.startswith("FAILED") for line in lines))
