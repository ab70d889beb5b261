"""SQLModel's AsyncSession with aiosqlite, behind FastAPI, as its tutorial has it."""

import asyncio

import fastapi
import httpx
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

import servers


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True)
    age: int | None = None


def make_app(engine):
    app = fastapi.FastAPI()

    async def session():
        async with AsyncSession(engine) as session:
            yield session

    @app.post("/heroes")
    async def create(hero: Hero, session: AsyncSession = fastapi.Depends(session)) -> Hero:
        session.add(hero)
        await session.commit()
        await session.refresh(hero)
        return hero

    @app.get("/heroes/{number}")
    async def read(number: int, session: AsyncSession = fastapi.Depends(session)) -> Hero:
        if hero := await session.get(Hero, number):
            return hero
        raise fastapi.HTTPException(404)

    return app


def test_service(run, tmp_path):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'heroes.sqlite'}")
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        async with (
            servers.asgi(make_app(engine), lifespan="off") as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            created = await asyncio.gather(
                *(client.post("/heroes", json={"name": f"hero {age}", "age": age}) for age in range(20))
            )
            numbers = {answer.json()["id"]: answer.json()["age"] for answer in created}
            assert sorted(numbers) == list(range(1, 21))
            for number, age in numbers.items():
                hero = (await client.get(f"/heroes/{number}")).json()
                assert hero == {"id": number, "name": f"hero {age}", "age": age}
            assert (await client.get("/heroes/99")).status_code == 404
        async with AsyncSession(engine) as session:
            heroes = (await session.exec(select(Hero).where(Hero.age >= 15).order_by(Hero.age))).all()
        await engine.dispose()
        return [hero.name for hero in heroes]

    assert run(main) == [f"hero {age}" for age in range(15, 20)]
