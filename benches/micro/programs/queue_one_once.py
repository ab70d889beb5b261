"""One task puts items into a queue of ten places, another gets them; one operation is one item."""

from .queue_one import main

__all__ = ["BATCH", "ONCE", "main"]

BATCH = 100_000
ONCE = True
