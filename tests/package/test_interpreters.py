"""One interpreter of a process may import the extension module; a second one is refused."""

import subprocess
import sys
import textwrap

import pytest

SECOND_INTERPRETER = """
    import aioxide
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    second = interpreters.create({arguments})
    code = '''
    try:
        import aioxide._aioxide
    except ImportError as error:
        print("refused:", bool(str(error)))
    else:
        print("imported")
    '''
    import textwrap
    problem = interpreters.run_string(second, textwrap.dedent(code))
    assert not problem, problem
    interpreters.destroy(second)

    async def main():
        await aioxide.sleep(0)
        return "works on"

    print(aioxide.run(main()))
"""

# What shares the GIL with the first interpreter, and what has its own.
KINDS = ["'legacy'", "'isolated'"] if sys.version_info >= (3, 13) else ["isolated=False"]


@pytest.mark.parametrize("arguments", KINDS)
def test_a_second_interpreter_is_refused(arguments):
    program = textwrap.dedent(SECOND_INTERPRETER).replace("{arguments}", arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["refused: True", "works on", ""], done.stderr
    assert done.returncode == 0
