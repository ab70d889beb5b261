"""Echo servers, plain asyncio programs: nothing in them knows which loop runs them.

`start(tcp, unix, tls)` starts one on a free port of the host `tcp` or on the path `unix`, with that
SSL context; `sock` and `datagram` speak no TLS.
"""
