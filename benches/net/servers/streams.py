"""Echo by StreamReader and StreamWriter."""

import asyncio


async def echo(reader, writer):
    while data := await reader.read(256 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()


async def start(tcp, unix, tls):
    if unix:
        return await asyncio.start_unix_server(echo, unix, ssl=tls)
    return await asyncio.start_server(echo, tcp, 0, ssl=tls)
