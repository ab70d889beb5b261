"""The measured side of `targets.probe`: run one task on one target and print the version as
JSON."""

import asyncio
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets


def main() -> None:
    name = sys.argv[1]
    factory = targets.load(name)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.sleep(0))
    if name == "asyncio":
        version = platform.python_version()
    else:
        version = importlib.metadata.version(targets.module_of(name))
    print(json.dumps(version))


main()
