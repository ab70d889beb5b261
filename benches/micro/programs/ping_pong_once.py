"""Two tasks wake each other through fresh futures; one operation is there and back."""

from .ping_pong import main

__all__ = ["BATCH", "ONCE", "main"]

BATCH = 100_000
ONCE = True
