# warnings
"""A coroutine that nobody awaits."""


async def work():
    print("never printed")


work()
print("ends")

# prints
# ends
# reports
# *never_awaited.py:9: RuntimeWarning: coroutine 'work' was never awaited
#   work()
# RuntimeWarning: Enable tracemalloc to get the object allocation traceback
