"""The line that shows what is being measured."""

import sys


def progress(text: str) -> None:
    """Overwrite the line with `text`, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
