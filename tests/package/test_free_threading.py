"""A free-threaded build turns the GIL on when it imports aioxide, and CPython says so."""

import os
import subprocess
import sys
import sysconfig
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this build always has the GIL"
)

PROGRAM = """
    import sys
    before = sys._is_gil_enabled()
    import aioxide
    print(before, sys._is_gil_enabled(), aioxide.run(aioxide.sleep(0, "slept")))
"""


@pytest.mark.parametrize("is_on", [False, True], ids=["off", "on"])
def test_the_import_turns_the_gil_on(is_on):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_GIL"}
    if is_on:
        environment["PYTHON_GIL"] = "1"
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{is_on} True slept\n", done.stderr
    if is_on:
        assert done.stderr == ""
    else:
        [warning] = done.stderr.splitlines()
        assert "RuntimeWarning: The global interpreter lock (GIL) has been enabled" in warning
        assert "'aioxide._aioxide'" in warning
