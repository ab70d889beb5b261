"""SQLAlchemy's AsyncSession, with aiosqlite and with asyncpg: greenlets over the loop."""

import asyncio

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(sqlalchemy.ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture(params=["aiosqlite", "asyncpg"])
def url(request, tmp_path):
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'database.sqlite'}"
    server = request.getfixturevalue("postgres_server")
    return sqlalchemy.URL.create(
        "postgresql+asyncpg",
        server["user"],
        server["password"],
        server["host"],
        server["port"],
        server["database"],
    )


@pytest.fixture
def database(run, url):
    """database(conversation): `conversation(sessions)` on fresh tables."""

    def database(conversation):
        async def main():
            engine = create_async_engine(url)
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(Base.metadata.drop_all)
                    await connection.run_sync(Base.metadata.create_all)
                return await conversation(async_sessionmaker(engine, expire_on_commit=False))
            finally:
                await engine.dispose()

        return run(main)

    return database


async def fill(sessions):
    async with sessions.begin() as session:
        for number in range(3):
            titles = [Book(title=f"{number}.{part}") for part in range(4)]
            session.add(Author(name=f"author {number}", books=titles))


def test_objects_and_relations(database):
    async def conversation(sessions):
        await fill(sessions)
        async with sessions() as session:
            eager = sqlalchemy.select(Author).options(selectinload(Author.books)).order_by(Author.id)
            authors = (await session.scalars(eager)).all()
            loaded = [[book.title for book in author.books] for author in authors]
        async with sessions() as session:
            author = await session.scalar(sqlalchemy.select(Author).where(Author.name == "author 1"))
            lazy = [book.title for book in await author.awaitable_attrs.books]
        return loaded, lazy

    loaded, lazy = database(conversation)
    assert loaded == [[f"{number}.{part}" for part in range(4)] for number in range(3)]
    assert lazy == loaded[1]


def test_rollback(database):
    async def conversation(sessions):
        await fill(sessions)
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            async with sessions.begin() as session:
                session.add(Author(name="new"))
                session.add(Author(name="author 1"))
        async with sessions() as session:
            return await session.scalar(sqlalchemy.select(sqlalchemy.func.count(Author.id)))

    assert database(conversation) == 3


def test_stream(database):
    async def conversation(sessions):
        await fill(sessions)
        async with sessions() as session:
            rows = await session.stream_scalars(sqlalchemy.select(Book.title).order_by(Book.id))
            return [title async for title in rows]

    assert database(conversation) == [f"{number}.{part}" for number in range(3) for part in range(4)]


def test_sessions_at_once(database):
    async def conversation(sessions):
        await fill(sessions)

        async def count(number):
            async with sessions() as session:
                where = Book.title.startswith(f"{number}.")
                return len((await session.scalars(sqlalchemy.select(Book).where(where))).all())

        return await asyncio.gather(*(count(number % 4) for number in range(40)))

    assert database(conversation) == [4, 4, 4, 0] * 10


def test_cancelled_session(database):
    async def conversation(sessions):
        await fill(sessions)

        async def endless():
            async with sessions() as session:
                while True:
                    await session.execute(sqlalchemy.select(Author))

        task = asyncio.create_task(endless())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with sessions() as session:
            assert isinstance(session, AsyncSession)
            return len((await session.scalars(sqlalchemy.select(Author))).all())

    assert database(conversation) == 3
