"""Echo of lines by StreamReader and StreamWriter."""

import asyncio
import ssl

# in bytes; above the longest line that is sent
LIMIT = 1 << 20


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> asyncio.Server:
    if unix:
        return await asyncio.start_unix_server(echo, unix, ssl=tls, limit=LIMIT)
    return await asyncio.start_server(echo, tcp, 0, ssl=tls, limit=LIMIT)
