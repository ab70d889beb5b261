"""asyncpg against PostgreSQL. Its protocol is written in C on the loop's transports."""

import asyncio
import datetime
import decimal
import io
import os
import ssl
import uuid

import asyncpg
import pytest


@pytest.fixture(params=["plain", "tls"])
def options(request, postgres_server, certificates):
    """How to connect: plain, or over TLS, to which the connection is upgraded by start_tls."""
    tls = False
    if request.param == "tls":
        tls = ssl.create_default_context(cafile=certificates / "authority.pem")
    return {**postgres_server, "ssl": tls}


@pytest.fixture
def query(run, options):
    """query(conversation): `conversation(connection)` on a connection of its own."""

    def query(conversation):
        async def main():
            connection = await asyncpg.connect(**options)
            try:
                encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
                assert await connection.fetchval(encrypted) == bool(options["ssl"])
                return await conversation(connection)
            finally:
                await connection.close()

        return run(main)

    return query


def test_types(query):
    values = [
        ("bigint", 2**62),
        ("numeric", decimal.Decimal("1.50")),
        ("text", "ü" * 100_000),
        ("bytea", bytes(range(256)) * 4000),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)),
        ("uuid", uuid.UUID(int=5)),
        ("int[]", [1, None, 3]),
    ]

    async def conversation(connection):
        return [await connection.fetchval(f"select $1::{kind}", value) for kind, value in values]

    assert query(conversation) == [value for _, value in values]


def test_transactions_and_errors(query):
    async def conversation(connection):
        await connection.execute("create temp table item(id int primary key, name text)")
        await connection.executemany("insert into item values($1, $2)", [(n, str(n)) for n in range(500)])
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("insert into item values(1000, 'rolled back')")
                await connection.execute("insert into item values(1, 'twice')")
        assert await connection.fetchval("select count(*) from item") == 500
        async with connection.transaction():
            cursor = connection.cursor("select id from item order by id", prefetch=7)
            rows = [row["id"] async for row in cursor]
        assert rows == list(range(500))

    query(conversation)


def test_copy(query):
    async def conversation(connection):
        await connection.execute("create temp table item(id int, name text)")
        records = [(n, "x" * 100) for n in range(20_000)]
        assert await connection.copy_records_to_table("item", records=records) == "COPY 20000"
        output = io.BytesIO()
        await connection.copy_from_query("select id from item order by id", output=output)
        return output.getvalue()

    assert query(conversation) == b"".join(b"%d\n" % n for n in range(20_000))


def test_notifications(query):
    async def conversation(connection):
        heard = asyncio.Queue()
        await connection.add_listener("channel", lambda *args: heard.put_nowait(args[3]))
        await connection.execute("select pg_notify('channel', 'one'), pg_notify('channel', 'two')")
        return [await heard.get(), await heard.get()]

    assert query(conversation) == ["one", "two"]


def test_cancellation_and_timeout(query):
    """Both send the server a cancel request over a connection of its own."""

    async def conversation(connection):
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetchval("select pg_sleep(60)", timeout=0.05)
        sleeping = asyncio.create_task(connection.fetchval("select pg_sleep(60)"))
        await asyncio.sleep(0.02)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        return await connection.fetchval("select 'usable'")

    assert query(conversation) == "usable"


def test_pool(run, options):
    async def main():
        async with asyncpg.create_pool(**options, min_size=2, max_size=5) as pool:
            async def ask(number):
                async with pool.acquire() as connection:
                    return await connection.fetchrow("select pg_backend_pid(), $1::int", number)

            rows = await asyncio.gather(*(ask(number) for number in range(60)))
            assert [row[1] for row in rows] == list(range(60))
            assert 2 <= len({row[0] for row in rows}) <= 5

    run(main)


def test_connection_that_the_server_ends(run, options):
    async def main():
        connection, other = [await asyncpg.connect(**options) for _ in range(2)]
        pid = connection.get_server_pid()
        sleeping = asyncio.create_task(connection.fetch("select pg_sleep(60)"))
        await asyncio.sleep(0.02)
        assert await other.fetchval("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await sleeping
        assert connection.is_closed()
        await other.close()

    run(main)


def test_wrong_password(run, options):
    async def main():
        before = os.listdir("/proc/self/fd")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**{**options, "password": "wrong"})
        # connect() does not wait for the server to answer that TLS is over
        async with asyncio.timeout(20):
            while len(os.listdir("/proc/self/fd")) > len(before):
                await asyncio.sleep(0.01)

    run(main)
