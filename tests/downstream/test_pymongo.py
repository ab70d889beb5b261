"""PyMongo's AsyncMongoClient against a server that speaks MongoDB's wire protocol.

The client has a monitoring task for each server and reads with the loop's own buffered protocol.
"""

import asyncio

import pymongo
import pytest
from pymongo import AsyncMongoClient, InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

import mongo
import servers


@pytest.fixture(params=["plain", "tls"])
def talk(request, run, server_tls, certificates):
    """talk(conversation): `conversation(database, server)` with a client of its own."""

    def talk(conversation):
        options = {"serverSelectionTimeoutMS": 30_000}
        if request.param == "tls":
            options |= {"tls": True, "tlsCAFile": str(certificates / "authority.pem")}

        async def main():
            with mongo.serving(server_tls if request.param == "tls" else None) as server:
                async with AsyncMongoClient(server.url, **options) as client:
                    return await conversation(client.tests, server)

        return run(main)

    return talk


def test_documents(talk):
    async def conversation(database, server):
        items = database.items
        assert (await items.insert_one({"_id": 1, "name": "one", "text": "x" * 500_000})).inserted_id == 1
        with pytest.raises(DuplicateKeyError):
            await items.insert_one({"_id": 1})
        assert (await items.find_one({"name": "one"}))["text"] == "x" * 500_000
        result = await items.update_one({"_id": 2}, {"$set": {"name": "two"}, "$inc": {"n": 5}}, upsert=True)
        assert result.upserted_id == 2
        new = await items.find_one_and_update(
            {"_id": 2}, {"$push": {"list": "a"}}, return_document=ReturnDocument.AFTER
        )
        assert new == {"_id": 2, "name": "two", "n": 5, "list": ["a"]}
        await items.replace_one({"_id": 2}, {"name": "new"})
        assert await items.find_one({"_id": 2}) == {"_id": 2, "name": "new"}
        assert (await items.delete_many({"_id": {"$gte": 2}})).deleted_count == 1
        assert await database.list_collection_names() == ["items"]
        assert await items.count_documents({}) == await items.estimated_document_count() == 1

    talk(conversation)


def test_cursors(talk):
    async def conversation(database, server):
        await database.items.insert_many([{"_id": n, "even": n % 2 == 0} for n in range(2000)])
        cursor = database.items.find({"even": True}, {"even": 0}, batch_size=70).sort("_id", -1)
        assert [item["_id"] async for item in cursor] == list(range(1998, -1, -2))
        assert len(await database.items.find().skip(10).limit(25).to_list()) == 25
        stages = [{"$match": {"_id": {"$lt": 100}}}, {"$group": {"_id": "$even", "sum": {"$sum": "$_id"}}}]
        groups = await (await database.items.aggregate(stages)).to_list()
        assert {row["_id"]: row["sum"] for row in groups} == {True: 2450, False: 2500}
        async with database.items.find(batch_size=10) as cursor:
            assert (await anext(cursor))["_id"] == 0
        assert not server.store.cursors

    talk(conversation)


def test_bulk_write(talk):
    async def conversation(database, server):
        requests = [InsertOne({"_id": n}) for n in range(3000)]
        result = await database.items.bulk_write([*requests, UpdateOne({"_id": 7}, {"$set": {"a": 1}})])
        assert (result.inserted_count, result.modified_count) == (3000, 1)
        with pytest.raises(BulkWriteError) as failed:
            await database.items.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": -1})], ordered=False)
        assert failed.value.details["nInserted"] == 1
        assert failed.value.details["writeErrors"][0]["code"] == 11000

    talk(conversation)


def test_many_at_once(talk):
    async def conversation(database, server):
        async def change(number):
            await database.items.insert_one({"_id": number})
            await database.counters.update_one({"_id": 0}, {"$inc": {"n": 1}}, upsert=True)
            return (await database.items.find_one({"_id": number}))["_id"]

        assert await asyncio.gather(*(change(n) for n in range(150))) == list(range(150))
        assert (await database.counters.find_one())["n"] == 150

    talk(conversation)


def test_errors_of_the_server(talk):
    async def conversation(database, server):
        with pytest.raises(OperationFailure, match="no such command") as failed:
            await database.command("nonsense")
        assert failed.value.code == 59

    talk(conversation)


async def sleeping(database, server, seconds):
    """A task that waits for a command that the server is at: PyMongo forgets to close the socket
    of a task that is cancelled earlier, while it connects."""
    task = asyncio.create_task(database.command("sleep", seconds=seconds))
    while not server.store.sleeping:
        await asyncio.sleep(0.001)
    return task


def test_cancellation_and_timeout(talk):
    async def conversation(database, server):
        waiting = await sleeping(database, server, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await database.command("ping")  # on a connection that the next command finds open
        with pytest.raises(pymongo.errors.PyMongoError) as failed, pymongo.timeout(0.05):
            await database.command("sleep", seconds=1)
        assert failed.value.timeout
        assert await database.command("ping") == {"ok": 1.0}

    talk(conversation)


def test_broken_connections(talk):
    """What was on its way fails or is tried again; the client finds the server anew."""

    async def conversation(database, server):
        await database.items.insert_one({"_id": 1})
        waiting = await sleeping(database, server, 0.5)
        server.drop_connections()
        with pytest.raises(AutoReconnect):
            await waiting
        assert await database.items.find_one() == {"_id": 1}

    talk(conversation)


def test_nobody_there(run):
    async def main():
        url = f"mongodb://127.0.0.1:{servers.free_port()}/"
        async with AsyncMongoClient(url, serverSelectionTimeoutMS=50) as client:
            with pytest.raises(ServerSelectionTimeoutError):
                await client.tests.command("ping")
            # The monitor tries again at this moment, and is not to be cancelled while it connects.
            await asyncio.sleep(0.1)

    run(main)
