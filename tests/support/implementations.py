"""The modules that the tests compare."""

import os

# One of the names below: the tests that run on each of them run on this one alone.
ONLY = os.environ.get("AIOXIDE_TESTS_ONLY")
ONLY_ASYNCIO = ONLY == "asyncio"

# What one test compares with one another.
COMPARED = ["asyncio"] if ONLY_ASYNCIO else ["asyncio", "aioxide"]
# What a test runs on in turn.
TRIED = [name for name in COMPARED if ONLY in (None, "", name)]
