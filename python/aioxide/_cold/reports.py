"""The reports of the native loop, in the running version's own words. The code is cold: it runs
when a callback has failed, or was slow in debug mode."""

import sys
from asyncio import base_events, events, format_helpers
from asyncio.log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

# Since 3.13 arguments are shown only in debug mode.
_HIDES_ARGUMENTS = sys.version_info >= (3, 13)


def callback_failed(handle: "Any", exception: BaseException) -> None:
    """Call the loop's exception handler: the callback of `handle` has raised `exception`."""
    loop = handle._loop
    options = {"debug": loop.get_debug()} if _HIDES_ARGUMENTS else {}
    source = format_helpers._format_callback_source(handle._callback, handle._args, **options)
    report = {
        "message": f"Exception in callback {source}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        report["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(report)


def callback_was_slow(entry: "asyncio.Handle | asyncio.Task[Any]", seconds: float) -> None:
    """Log that `entry` (a Handle, or the Task that took a step) ran for `seconds`."""
    as_handle: Any = base_events._format_handle  # type: ignore[attr-defined]
    shown = as_handle(entry) if isinstance(entry, events.Handle) else repr(entry)
    logger.warning("Executing %s took %.3f seconds", shown, seconds)
