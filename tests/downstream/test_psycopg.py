"""psycopg's AsyncConnection against PostgreSQL: libpq on descriptors that the loop watches."""

import asyncio

import psycopg
import psycopg_pool
import pytest


@pytest.fixture(params=["plain", "tls"])
def conninfo(request, postgres_server, certificates):
    tls = f"sslmode=verify-full sslrootcert={certificates / 'authority.pem'}"
    return psycopg.conninfo.make_conninfo(
        tls if request.param == "tls" else "sslmode=disable",
        **{"dbname" if name == "database" else name: value for name, value in postgres_server.items()},
    )


def test_rows_and_transactions(run, conninfo):
    async def main():
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            async with connection.cursor() as cursor:
                await cursor.execute("create temp table item(id int primary key, name text)")
                rows = [(n, "x" * 1000) for n in range(500)]
                await cursor.executemany("insert into item values(%s, %s)", rows)
                await cursor.execute("select * from item order by id")
                assert await cursor.fetchall() == rows
            await connection.commit()
            with pytest.raises(psycopg.errors.UniqueViolation):
                async with connection.transaction():
                    await connection.execute("insert into item values(1000, '')")
                    await connection.execute("insert into item values(1, '')")
            async with connection.cursor("on_the_server") as cursor:
                await cursor.execute("select id from item order by id")
                assert [row[0] async for row in cursor] == list(range(500))

    run(main)


def test_copy(run, conninfo):
    async def main():
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            await connection.execute("create temp table item(id int, name text)")
            async with connection.cursor().copy("copy item from stdin") as copy:
                for number in range(20_000):
                    await copy.write_row((number, "x" * 100))
            data = bytearray()
            async with connection.cursor().copy("copy (select id from item order by id) to stdout") as copy:
                async for part in copy:
                    data += part
            assert data == b"".join(b"%d\n" % number for number in range(20_000))

    run(main)


def test_pipeline(run, conninfo):
    async def main():
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            async with connection.pipeline():
                cursors = [await connection.execute("select %s::int", [n]) for n in range(200)]
            assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(200))

    run(main)


def test_notifications(run, conninfo):
    async def main():
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await connection.execute("listen channel")

            async def listen():
                return [note.payload async for note in connection.notifies(stop_after=2, timeout=30)]

            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as other:
                await other.execute("select pg_notify('channel', 'one'), pg_notify('channel', 'two')")
            assert await listen() == ["one", "two"]

    run(main)


def test_cancellation(run, conninfo):
    async def main():
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await connection.execute("select pg_sleep(60)")
            cursor = await connection.execute("select 'usable'")
            assert await cursor.fetchone() == ("usable",)

    run(main)


def test_pool(run, conninfo):
    async def main():
        async with psycopg_pool.AsyncConnectionPool(conninfo, min_size=2, max_size=5, open=False) as pool:

            async def ask(number):
                async with pool.connection() as connection:
                    cursor = await connection.execute("select pg_backend_pid(), %s::int", [number])
                    return await cursor.fetchone()

            rows = await asyncio.gather(*(ask(number) for number in range(60)))
            assert [row[1] for row in rows] == list(range(60))
            assert 2 <= len({row[0] for row in rows}) <= 5

    run(main)
