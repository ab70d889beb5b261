"""uvicorn, after aioxide.install(); its child processes come by here too."""

import aioxide

aioxide.install()

import uvicorn  # noqa: E402

if __name__ == "__main__":
    uvicorn.main()
