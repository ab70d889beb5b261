"""Motor against a server that speaks MongoDB's wire protocol: threads that report to the loop."""

import asyncio

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import DuplicateKeyError

import mongo


@pytest.fixture
def talk(run):
    """talk(conversation): `conversation(database)` with a client of its own."""

    def talk(conversation):
        async def main():
            with mongo.serving() as server:
                client = AsyncIOMotorClient(server.url)
                try:
                    return await conversation(client.tests)
                finally:
                    client.close()

        return run(main)

    return talk


def test_documents(talk):
    async def conversation(database):
        await database.items.insert_one({"_id": 1, "name": "one"})
        with pytest.raises(DuplicateKeyError):
            await database.items.insert_one({"_id": 1})
        await database.items.update_one({"_id": 1}, {"$set": {"name": "new"}})
        assert await database.items.find_one({"_id": 1}) == {"_id": 1, "name": "new"}
        await database.items.delete_one({"_id": 1})
        assert await database.items.count_documents({}) == 0

    talk(conversation)


def test_cursors(talk):
    async def conversation(database):
        await database.items.insert_many([{"_id": n} for n in range(1000)])
        cursor = database.items.find().sort("_id", -1).batch_size(70)
        assert [item["_id"] async for item in cursor] == list(range(999, -1, -1))
        assert len(await database.items.find({"_id": {"$lt": 500}}).to_list(None)) == 500
        [row] = await database.items.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}}}]).to_list(1)
        assert row["n"] == 1000

    talk(conversation)


def test_many_at_once(talk):
    async def conversation(database):
        async def change(number):
            await database.items.insert_one({"_id": number})
            return (await database.items.find_one({"_id": number}))["_id"]

        assert await asyncio.gather(*(change(n) for n in range(100))) == list(range(100))

    talk(conversation)


def test_client_made_before_the_loop(run):
    """It asks for the loop when it first needs one."""
    with mongo.serving() as server:
        client = AsyncIOMotorClient(server.url)

        async def main():
            return await client.admin.command("ping")

        try:
            assert run(main) == {"ok": 1.0}
        finally:
            client.close()
