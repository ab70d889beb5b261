"""Echo by StreamReader and StreamWriter."""

import asyncio
import ssl


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(256 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> asyncio.Server:
    if unix:
        return await asyncio.start_unix_server(echo, unix, ssl=tls)
    return await asyncio.start_server(echo, tcp, 0, ssl=tls)
