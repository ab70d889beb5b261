"""A free-threaded build imports aioxide without a GIL, and without a warning."""

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
    import aioxide
    print(sys._is_gil_enabled(), aioxide.run(aioxide.sleep(0, "slept")))
"""


@pytest.mark.parametrize("gil", [None, "0", "1"])
def test_the_import_leaves_the_gil_as_it_is(gil):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_GIL"}
    if gil is not None:
        environment["PYTHON_GIL"] = gil
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{gil == '1'} slept\n", "")
