"""A small web service: FastAPI under uvicorn.

    python examples/service.py [--port 8000]               on asyncio
    python -m aioxide examples/service.py [--port 8000]    on aioxide
"""

import argparse
import asyncio

import fastapi
import uvicorn

app = fastapi.FastAPI()


@app.get("/")
async def about():
    """Say which event loop serves."""
    loop = type(asyncio.get_running_loop())
    return {"loop": f"{loop.__module__}.{loop.__qualname__}"}


@app.get("/items/{number}")
async def item(number: int):
    """Answer after what stands for a question to a database."""
    await asyncio.sleep(0.01)
    return {"number": number, "square": number * number}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
