"""Echo of lines by StreamReader and StreamWriter."""

import asyncio

# in bytes; above the longest line that is sent
LIMIT = 1 << 20


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def start(tcp, unix, tls):
    if unix:
        return await asyncio.start_unix_server(echo, unix, ssl=tls, limit=LIMIT)
    return await asyncio.start_server(echo, tcp, 0, ssl=tls, limit=LIMIT)
