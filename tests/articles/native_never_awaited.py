# warnings
"""asyncio's own coroutines warn alike."""

import asyncio


async def main():
    asyncio.sleep(1)
    asyncio.to_thread(print)


asyncio.run(main())

# prints
# reports
# *native_never_awaited.py:8: RuntimeWarning: coroutine 'sleep' was never awaited
#   asyncio.sleep(1)
# RuntimeWarning: Enable tracemalloc to get the object allocation traceback
# *native_never_awaited.py:9: RuntimeWarning: coroutine 'to_thread' was never awaited
#   asyncio.to_thread(print)
# RuntimeWarning: Enable tracemalloc to get the object allocation traceback
