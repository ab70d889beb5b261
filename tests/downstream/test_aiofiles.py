"""aiofiles: files in the loop's executor."""

import asyncio

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import pytest


def test_write_and_read(run, tmp_path):
    async def main():
        path = tmp_path / "text"
        async with aiofiles.open(path, "w", encoding="utf-8") as file:
            await file.writelines(f"{number} ü\n" for number in range(5000))
        async with aiofiles.open(path, encoding="utf-8") as file:
            lines = [line async for line in file]
            await file.seek(0)
            assert await file.readline() == "0 ü\n"
        assert lines == [f"{number} ü\n" for number in range(5000)]

    run(main)


def test_many_files_at_once(run, tmp_path):
    async def main():
        async def copy(number):
            content = bytes([number]) * 100_000
            async with aiofiles.open(tmp_path / str(number), "wb") as file:
                for place in range(0, len(content), 10_000):
                    await file.write(content[place : place + 10_000])
            async with aiofiles.open(tmp_path / str(number), "rb") as file:
                return await file.read() == content

        assert all(await asyncio.gather(*(copy(number) for number in range(60))))
        assert len(await aiofiles.os.listdir(tmp_path)) == 60

    run(main)


def test_errors_and_temporary_files(run, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError):
            async with aiofiles.open(tmp_path / "none"):
                pass
        async with aiofiles.tempfile.TemporaryDirectory() as folder:
            async with aiofiles.tempfile.NamedTemporaryFile("w+", dir=folder) as file:
                await file.write("text")
                await file.flush()
                assert (await aiofiles.os.stat(file.name)).st_size == 4
        assert not await aiofiles.os.path.exists(folder)

    run(main)
