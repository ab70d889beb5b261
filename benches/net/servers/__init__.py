"""Echo servers: plain asyncio programs, in which no code depends on the loop.

`start(tcp, unix, tls)` starts one on a free port of the host `tcp` or on the path `unix`, with that
SSL context. `sock` and `datagram` speak no TLS.
"""
