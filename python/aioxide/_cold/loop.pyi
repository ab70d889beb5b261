import asyncio
from selectors import BaseSelector

from .._aioxide import EventLoop

class Loop(EventLoop, asyncio.SelectorEventLoop):
    def __init__(self, selector: BaseSelector | None = None) -> None: ...
