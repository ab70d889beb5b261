"""A tree of tasks: groups in groups, a timeout, and one branch that fails."""

import asyncio


async def count_leaves(depth):
    """Split in two until the depth is used up; count the ends."""
    if depth == 0:
        await asyncio.sleep(0)
        return 1
    async with asyncio.TaskGroup() as group:
        halves = [group.create_task(count_leaves(depth - 1)) for _ in range(2)]
    return sum(half.result() for half in halves)


async def fail_soon():
    await asyncio.sleep(0.01)
    raise ValueError("this branch is broken")


async def wait_long(name):
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print(f"{name} was cancelled")
        raise


async def main():
    print("leaves:", await count_leaves(10))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_long("the neighbour"))
            group.create_task(fail_soon())
    except* ValueError as failures:
        print("failed:", *failures.exceptions)
    try:
        async with asyncio.timeout(0.05):
            await wait_long("the slow one")
    except TimeoutError:
        print("timed out")


if __name__ == "__main__":
    asyncio.run(main())
