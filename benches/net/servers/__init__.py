"""Echo servers, plain asyncio programs: nothing in them knows which loop runs them.

`start(tcp, unix)` starts one on a free port of the host `tcp` or on the path `unix`.
"""
