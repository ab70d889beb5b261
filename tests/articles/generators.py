# legacy
# asyncio never
"""@asyncio.coroutine and yield from, and what has replaced them."""

import asyncio


@asyncio.coroutine
def old(name):
    print(name, "begins")
    got = yield from asyncio.sleep(0.01)
    print(name, "goes on with", got)
    return name


async def new(name):
    print(name, "begins")
    got = await asyncio.sleep(0.01)
    print(name, "goes on with", got)
    return name


def within():
    # As far as the caller can tell, this is the generator that it sends to and throws at.
    try:
        received = yield "from within"
        print("received", received)
        yield "again"
    except KeyError as error:
        print("thrown", error)
    return "returned"


def delegating():
    result = yield from within()
    print("result", result)
    yield "after"


channel = delegating()
print(next(channel), channel.send("by send()"), channel.throw(KeyError("by throw()")))

loop = asyncio.get_event_loop()
print(loop.run_until_complete(asyncio.gather(old("old"), new("new"))))
print(asyncio.iscoroutinefunction(old), asyncio.iscoroutine(within()))
loop.close()

# prints
# received by send()
# thrown 'by throw()'
# result returned
# from within again after
# old begins
# new begins
# old goes on with None
# new goes on with None
# ['old', 'new']
# True True
