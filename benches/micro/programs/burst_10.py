"""Ten callbacks scheduled at once and run, again and again."""

from .parts.burst import bursts

BATCH = 10


async def main(operations: int) -> float:
    return await bursts(BATCH, operations)
