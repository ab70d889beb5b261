"""The modules that the tests compare."""

import os

ONLY_ASYNCIO = os.environ.get("AIOXIDE_TESTS_ONLY") == "asyncio"
IMPLEMENTATIONS = ["asyncio"] if ONLY_ASYNCIO else ["asyncio", "aioxide"]
