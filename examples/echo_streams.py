"""An echo server with streams, and ten clients that talk to it line by line."""

import asyncio


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def talk(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for word in ("one", "two", "three"):
        writer.write(f"{number} says {word}\n".encode())
        answers.append((await reader.readline()).decode().rstrip())
    writer.close()
    await writer.wait_closed()
    return answers


async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for answers in await asyncio.gather(
                *(talk(port, number) for number in range(10))):
            print(", ".join(answers))


if __name__ == "__main__":
    asyncio.run(main())
