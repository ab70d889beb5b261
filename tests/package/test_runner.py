"""`python -m aioxide`: a program sees and shows what it does under python itself."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest

RUNNER = ["-m", "aioxide"]

# As release builds have it by default. A debug build warns of each loop that a program leaves
# open, at a moment and with a class's name that are not what these tests are about.
QUIET = {"PYTHONWARNINGS": "ignore::ResourceWarning"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def write(folder):
    def write(name, text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    return write


@pytest.fixture
def python(folder):
    """python(*arguments): a finished process, run in the test's folder."""

    def python(*arguments, stdin="", **environment):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **QUIET, "PYTHON_COLORS": "0", **environment},
        )

    return python


@pytest.fixture
def both(python):
    """both(*arguments): asserts that python and the runner show and end alike; the runner's."""

    def both(*arguments, flags=(), **options):
        plain = python(*flags, *arguments, **options)
        ours = python(*flags, *RUNNER, *arguments, **options)
        assert without_addresses(ours.stderr) == without_addresses(plain.stderr)
        assert without_addresses(ours.stdout) == without_addresses(plain.stdout)
        assert ours.returncode == plain.returncode
        return ours

    return both


def without_addresses(text):
    return re.sub("0x[0-9a-f]+", "0x?", text)


def without_asyncio(text):
    """A traceback without asyncio's frames: ours has fewer of them."""
    frame = r'  File "[^"]*/asyncio/[^"]*", line .*\n(?:    .*\n)*'
    return without_addresses(re.sub(frame, "", text))


SHOW = """\
import sys
names = {name: value for name, value in globals().items() if name not in ("sys", "__builtins__")}
for name in sorted(names):
    value = names[name]
    print(name, type(value).__name__ if name == "__loader__" else value)
print(sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals(), __builtins__)
"""


# What the program is.


def test_the_script_is_the_real_main(write, both, folder):
    write("show.py", SHOW)
    write("deeper/show.py", SHOW)
    for path in ("show.py", "./show.py", "deeper/../deeper/show.py", str(folder / "show.py")):
        assert f"['{path}', '-a', 'b'] {folder}" in both(path, "-a", "b").stdout


def test_a_script_behind_a_link(write, both, folder):
    write("deeper/show.py", SHOW)
    (folder / "link.py").symlink_to("deeper/show.py")
    assert f"['link.py'] {folder}/deeper" in both("link.py").stdout


def test_a_script_whose_folder_is_not_to_be_trusted(write, both):
    write("show.py", SHOW)
    both("show.py", flags=["-P"])


@pytest.mark.parametrize("arguments", [("-m", "show", "-m", "x"), ("-mshow",)])
def test_a_module(write, both, arguments, folder):
    write("show.py", SHOW)
    assert f"__file__ {folder}/show.py" in both(*arguments).stdout


def test_a_package(write, both):
    write("package/__init__.py", "import sys; print(__name__, sys.argv)")
    write("package/__main__.py", "from . import __name__ as name; print(name)\n" + SHOW)
    write("package/part.py", SHOW)
    assert "__package__ package" in both("-m", "package", "argument").stdout
    both("-m", "package.part")


@pytest.mark.parametrize("arguments", [("-c", SHOW, "-c", "b"), ("-c" + SHOW,)])
def test_code(both, arguments):
    both(*arguments)


def test_standard_input(both):
    assert "__file__ <stdin>" in both("-", "a", stdin=SHOW).stdout


def test_a_folder_and_a_zip_file(write, both, folder):
    write("program/__main__.py", SHOW + "import beside")
    write("program/beside.py", "print(__file__)")
    with zipfile.ZipFile(folder / "program.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    both("program", "a")
    both("./program")
    both("program.zip", "a")
    both(str(folder / "program"))


def test_byte_code(write, both, python, folder):
    write("show.py", SHOW)
    python("-c", "import py_compile; py_compile.compile('show.py', 'show.pyc')")
    both("show.pyc", "a")


def test_two_dashes_end_the_options(write, python):
    write("-odd.py", "print('odd')")
    assert python(*RUNNER, "--", "-odd.py").stdout == "odd\n"


def test_coding_and_invisible_mark(folder, both):
    (folder / "latin.py").write_bytes("# coding: latin-1\nprint(ascii('é'))".encode("latin-1"))
    (folder / "mark.py").write_bytes(b"\xef\xbb\xbfprint(1)")
    assert both("latin.py").stdout == "'\\xe9'\n"
    assert both("mark.py").stdout == "1\n"


def test_future_statements_of_the_runner_do_not_leak(write, both):
    write("annotated.py", "def f(x: 1 + 1): pass\nprint(f.__annotations__)")
    assert both("annotated.py").stdout == "{'x': 2}\n"


# How it ends.


@pytest.mark.parametrize(
    "end",
    [
        "1 / 0",
        "def deeper(): raise KeyError('x')\ndeeper()",
        "raise SystemExit",
        "raise SystemExit(7)",
        "raise SystemExit('text')",
        "import sys; sys.exit(None)",
        "import os; os._exit(5)",
        "try: 1 / 0\nexcept ZeroDivisionError as error: raise ValueError('x') from error",
        "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
        "import signal, os; os.kill(os.getpid(), signal.SIGTERM)",
        "raise KeyboardInterrupt",
        "import sys; sys.excepthook = lambda *error: print(error[0], error[2].tb_lineno)\n1 / 0",
        "import sys; sys.excepthook = lambda *error: print(sys.last_traceback is error[2])\n1 / 0",
        "import atexit; atexit.register(print, 'end')\n1 / 0",
        "import sys; del sys.excepthook",
        "def broken(:",
        "if 1:\nprint()",
    ],
)
def test_ends(write, both, end):
    write("end.py", end)
    shown = both("end.py")
    assert "aioxide" not in shown.stderr
    both("-c", end)
    both("-", stdin=end)
    if "broken" not in end and "if 1" not in end:
        both("-m", "end")


@pytest.mark.parametrize(
    "end",
    [
        "async def main(): 1 / 0\nasyncio.run(main())",
        "asyncio.run(None)",
        "asyncio.new_event_loop().run_until_complete(asyncio.sleep(0, 1 / 0))",
        "loop = asyncio.new_event_loop(); loop.close(); loop.run_forever()",
        "loop = asyncio.new_event_loop(); loop.call_soon(sys.exit, 3); loop.run_forever()",
    ],
)
def test_ends_in_asyncio(write, python, end):
    write("end.py", f"import asyncio, sys\n{end}")
    plain, ours = python("end.py"), python(*RUNNER, "end.py")
    assert ours.returncode == plain.returncode != 0
    assert without_asyncio(ours.stderr) == without_asyncio(plain.stderr)
    assert "aioxide" not in ours.stderr


def test_a_task_that_ends_the_program(write, python):
    """It is reported after the program has ended, and the way out is not part of its traceback."""
    write(
        "end.py",
        """
        import asyncio, sys
        async def leaves():
            sys.exit(4)
        async def main():
            task = asyncio.create_task(leaves())
            await asyncio.sleep(9)
        asyncio.run(main())
        """,
    )
    for runner in ([], RUNNER):
        ended = python(*runner, "end.py")
        assert ended.returncode == 4
        assert "Task exception was never retrieved" in ended.stderr
        assert ", in leaves" in ended.stderr and "aioxide" not in ended.stderr


def test_ctrl_c_ends_by_the_signal(write, folder):
    write(
        "forever.py",
        """
        import asyncio
        loop = asyncio.new_event_loop()
        loop.call_soon(lambda: print("runs", flush=True))
        loop.run_forever()
        """,
    )
    seen = []
    for runner in ([], RUNNER):
        with subprocess.Popen(
            [sys.executable, *runner, "forever.py"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUIET},
        ) as process:
            try:
                assert process.stdout.readline() == "runs\n"
                process.send_signal(signal.SIGINT)
                errors = process.communicate(timeout=60)[1]
            finally:
                process.kill()
        seen.append((process.returncode, errors.splitlines()[-1]))
    assert seen == [(-signal.SIGINT, "KeyboardInterrupt")] * 2


def test_ctrl_c_cancels_the_main_task(write, both):
    write(
        "cancelled.py",
        """
        import asyncio, os, signal
        async def main():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        try:
            asyncio.run(main())
        except KeyboardInterrupt as error:
            print("interrupted", error.args)
        """,
    )
    assert both("cancelled.py").stdout == "cancelled\ninterrupted ()\n"


def test_unread_exceptions_are_reported_at_the_end(write, python):
    write(
        "unread.py",
        """
        import asyncio
        async def fail():
            raise ValueError("unread")
        async def main():
            global kept
            kept = asyncio.create_task(fail())
            await asyncio.sleep(0)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, report: print(report["message"], report["exception"]))
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    for runner in ([], RUNNER):
        shown = python(*runner, "unread.py")
        assert shown.stdout == "Task exception was never retrieved unread\n", shown


def test_globals_die_at_the_end(write, both):
    write(
        "alive.py",
        """
        class Last:
            def __del__(self):
                print("gone")
        kept = Last()
        """,
    )
    for arguments in (("alive.py",), ("-m", "alive")):
        assert both(*arguments).stdout == "gone\n"


def test_warnings_name_the_script(write, both):
    write(
        "warns.py",
        """
        import asyncio, warnings
        async def never(): pass
        never()
        warnings.warn("here")
        def deeper(): warnings.warn("there", stacklevel=2)
        deeper()
        async def main():
            return repr(asyncio.current_task())
        print(asyncio.run(main()))
        """,
    )
    shown = both("warns.py")
    assert "warns.py:4: RuntimeWarning: coroutine 'never' was never awaited" in shown.stderr
    assert "there" in shown.stderr and "warns.py:9>" in shown.stdout


# What it runs on.

WHERE = """\
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    print(type(loop).__module__, type(asyncio.current_task()).__module__, loop.get_debug())
asyncio.run(main())
"""


def where(process):
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_the_program_runs_on_aioxide(write, python):
    write("where.py", WHERE)
    for arguments in (["where.py"], ["-m", "where"], ["-c", WHERE], ["-"]):
        loop, task, debug = where(python(*RUNNER, *arguments, stdin=WHERE))
        assert (loop, task.partition(".")[0], debug) == ("aioxide", "aioxide", "False")


def test_debug(write, python):
    write("where.py", WHERE)
    assert where(python(*RUNNER, "--debug", "where.py"))[2] == "True"


def test_the_loop_only(write, python):
    write("where.py", WHERE + "print(asyncio.Task, asyncio.sleep)")
    shown = python(*RUNNER, "--loop-only", "where.py").stdout
    assert shown.startswith("aioxide ")
    assert "<class '_asyncio.Task'> <function sleep" in shown


# Child processes.

POOL = """\
import asyncio, concurrent.futures, multiprocessing, sys

def where():
    async def main():
        return type(asyncio.get_running_loop()).__module__
    loop = type(asyncio.new_event_loop())
    return asyncio.run(main()), loop.__module__, asyncio.Task.__module__.partition(".")[0], __name__

def nested(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply(where)

async def main(method):
    context = multiprocessing.get_context(method)
    loop = asyncio.get_running_loop()
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print(*await loop.run_in_executor(pool, where))
        print(*await loop.run_in_executor(pool, nested, method))

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_process_pools_run_on_aioxide(write, python, method, as_module):
    write("pool.py", POOL)
    arguments = ["-m", "pool"] if as_module else ["pool.py"]
    name = "__main__" if method == "fork" else "__mp_main__"
    shown = python("-W", "ignore", *RUNNER, *arguments, method)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == f"aioxide aioxide aioxide {name}\n" * 2


def test_process_pools_keep_to_the_loop_only(write, python):
    write("pool.py", POOL)
    shown = python(*RUNNER, "--loop-only", "pool.py", "spawn")
    assert shown.stdout == "aioxide aioxide _asyncio __mp_main__\n" * 2, shown.stderr


def test_pools_find_aioxide_from_another_folder(write, python):
    write("pool.py", "import os; os.chdir('/')\n" + POOL)
    assert python(*RUNNER, "pool.py", "spawn").returncode == 0


def test_other_child_processes_are_left_alone(write, python):
    write(
        "child.py",
        """
        import subprocess, sys
        code = "import asyncio; print(type(asyncio.new_event_loop()).__module__)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        """,
    )
    assert python(*RUNNER, "child.py").stdout.strip() == "asyncio.unix_events"


# The command line.


def test_version_and_help(python):
    import aioxide

    for option in ("--version", "-V"):
        shown = python(*RUNNER, option)
        assert shown.returncode == 0 and shown.stderr == ""
        assert shown.stdout.startswith(f"aioxide {aioxide.__version__} on CPython ")
        assert shown.stdout.count("\n") == 1
    for option in ("--help", "-h"):
        shown = python(*RUNNER, option)
        assert shown.returncode == 0 and shown.stderr == ""
        lines = shown.stdout.splitlines()
        assert max(map(len, lines)) <= 100 and len(lines) <= 25
        for word in ("usage:", "--loop-only", "--debug", "--version", "--help", "examples:"):
            assert word in shown.stdout


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "no program"),
        (["--debug"], "no program"),
        (["--"], "no program"),
        (["--fast", "x.py"], "unknown option --fast"),
        (["-x"], "unknown option -x"),
        (["-m"], "option -m needs a module"),
        (["-c"], "option -c needs code"),
    ],
)
def test_a_bad_command_line_is_refused_in_one_line(python, arguments, reason):
    shown = python(*RUNNER, *arguments)
    assert shown.returncode == 2 and shown.stdout == ""
    assert shown.stderr == f"aioxide: {reason}; python -m aioxide --help tells more\n"


def test_a_program_that_is_not_there(both, folder):
    assert both("missing.py").returncode == 2
    (folder / "empty").mkdir()
    assert both("empty").returncode == 1
    assert both("-m", "missing").returncode == 1
    assert both("-m", "empty").returncode == 1
    assert both("-m", "missing.part").returncode == 1


def test_a_program_that_cannot_be_read(both, folder):
    with socket.socket(socket.AF_UNIX) as unreadable:
        unreadable.bind(str(folder / "unreadable.py"))
        assert both("unreadable.py").returncode == 2


def test_a_program_that_is_a_broken_link(both, folder):
    (folder / "loop.py").symlink_to("loop.py")
    assert both("loop.py").returncode == 2


def test_starting_is_quick(python):
    def seconds(*arguments):
        best = 10.0
        for _ in range(5):
            started = time.perf_counter()
            python(*arguments)
            best = min(best, time.perf_counter() - started)
        return best

    # Generous: it is there to notice a heavy import, not a busy machine.
    assert seconds(*RUNNER, "-c", "pass") < 3 * seconds("-c", "import asyncio") + 0.2


# Child processes.


WHAT_IT_IS = (
    "import asyncio; loop = asyncio.new_event_loop(); loop.close(); "
    "print(type(loop).__module__, asyncio.Task.__module__)"
)


@pytest.fixture
def child(write, python):
    """child(*flags, **environment): what a Python process shows that the program starts."""
    write(
        "program.py",
        f"""
        import os, subprocess, sys
        flags = os.environ.get("CHILD_FLAGS", "").split()
        code = os.environ.get("CHILD_CODE", {WHAT_IT_IS!r})
        sys.exit(subprocess.run([os.environ.get("CHILD", sys.executable), *flags, "-c", code]).returncode)
        """,
    )

    def child(*flags, **environment):
        shown = python(*RUNNER, *flags, "program.py", **environment)
        assert shown.stderr == "" and shown.returncode == 0
        return shown.stdout.splitlines()

    return child


def test_child_processes_are_left_alone(child):
    assert child() == child(AIOXIDE_CHILDREN="0") == ["asyncio.unix_events _asyncio"]


def test_child_processes_have_it_where_that_is_asked_for(child):
    assert child("--children") == child(AIOXIDE_CHILDREN="1") == ["aioxide aioxide"]
    assert child("--children", "--loop-only") == ["aioxide _asyncio"]


def test_children_of_children_have_it(child):
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WHAT_IT_IS!r}])"
    assert child("--children", CHILD_CODE=nested) == ["aioxide aioxide"]


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_children_that_do_not_look_at_the_environment(child, flag):
    assert child("--children", CHILD_FLAGS=flag) == ["asyncio.unix_events _asyncio"]


def test_children_that_are_given_another_environment(write, python):
    write(
        "program.py",
        f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", {WHAT_IT_IS!r}], env={{"PATH": "/bin"}})
        """,
    )
    shown = python(*RUNNER, "--children", "program.py")
    assert (shown.stdout, shown.stderr) == ("asyncio.unix_events _asyncio\n", "")


def test_children_do_not_notice(child):
    code = (
        "import sys; shown = [name for name in sys.modules if 'asyncio' in name or 'aioxide' in "
        "name]; print(shown, [path for path in sys.path if '_startup' in path], 'sitecustomize' in "
        "sys.modules and sys.modules['sitecustomize'].__file__.endswith('_startup'))"
    )
    assert child("--children", CHILD_CODE=code) == ["[] [] False"]
    code = "import asyncio; print(type(asyncio.__spec__.loader).__name__, asyncio.__loader__)"
    [shown] = child("--children", CHILD_CODE=code)
    assert shown.startswith("SourceFileLoader <") and "SourceFileLoader" in shown[20:]


def test_children_keep_the_users_sitecustomize_and_path(child, write, folder):
    write("site/sitecustomize.py", "print('of the user')")
    write("site/of_the_user.py", "")
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    code = f"import of_the_user; {WHAT_IT_IS}"
    assert child("--children", CHILD_CODE=code, PYTHONPATH=path.rstrip(os.pathsep)) == [
        "of the user",
        "of the user",
        "aioxide aioxide",
    ]


def test_children_of_another_kind_do_not_notice(child):
    code = "import os; os.environ['AIOXIDE_CHILDREN_OF'] = 'cpython-27'; "
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WHAT_IT_IS!r}])"
    assert child("--children", CHILD_CODE=code + nested) == ["asyncio.unix_events _asyncio"]


def test_uninstall_leaves_later_children_alone(write, python):
    write(
        "program.py",
        f"""
        import aioxide, os, subprocess, sys
        path = os.environ["PYTHONPATH"]
        aioxide.uninstall()
        subprocess.run([sys.executable, "-c", {WHAT_IT_IS!r}])
        print([name for name in os.environ if "AIOXIDE_CHILDREN" in name], path != os.environ.get("PYTHONPATH"))
        """,
    )
    shown = python(*RUNNER, "--children", "program.py")
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == ["asyncio.unix_events _asyncio", "[] True"]


def test_a_child_that_imports_aioxide_decides_by_itself(child):
    code = f"import aioxide; {WHAT_IT_IS}"
    assert child("--children", CHILD_CODE=code) == ["asyncio.unix_events _asyncio"]
