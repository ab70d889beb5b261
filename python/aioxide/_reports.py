"""What the native loop reports, in the running version's own words. Cold: called when something
went wrong, or was slow in debug mode."""

import sys
from asyncio import base_events, events, format_helpers
from asyncio.log import logger

# Since 3.13 arguments are shown in debug mode only.
_HIDES_ARGUMENTS = sys.version_info >= (3, 13)


def callback_failed(handle, exception):
    """Tell the loop's exception handler that the callback of `handle` raised `exception`."""
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


def callback_was_slow(entry, seconds):
    """Log that `entry` (a Handle, or the Task that made a step) ran for `seconds`."""
    shown = base_events._format_handle(entry) if isinstance(entry, events.Handle) else repr(entry)
    logger.warning("Executing %s took %.3f seconds", shown, seconds)
