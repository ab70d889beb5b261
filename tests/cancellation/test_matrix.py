"""Every call that waits, ended at each of its awaits in each way: no descriptor is left open, none
is closed that is another's, each connection that was made is lost once, no byte is lost."""

import asyncio

import pytest

import calls
from interrupting import interrupt

WAYS = ("cancelled", "late", "failed")

# Where asyncio itself fails.
LISTENS_ON = ("create_server", "create_server_by_name", "create_unix_server", "start_server")
NOT_TOLD_OF_THE_LOSS = ("start_tls", "start_tls_of_the_server", "start_tls_of_streams")
LOSES_WHAT_CAME = ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_accept")
HANGS_AT_TIMES = ("subprocess_exec", "subprocess_shell", "create_subprocess_exec")


def asyncio_fails(name, how):
    return (
        name in (*LISTENS_ON, *HANGS_AT_TIMES)
        or (name in NOT_TOLD_OF_THE_LOSS and how != "late")
        or (name in LOSES_WHAT_CAME and how == "late")
    )


CASES = [(name, how) for name in calls.ALL for how in WAYS]
# Its inner future fails nowhere but here, and asyncio's race, which both use, has a NameError then.
CASES.remove(("create_connection_of_the_fastest", "failed"))
if "_set_result_unless_cancelled" not in asyncio.BaseEventLoop._do_shutdown.__code__.co_names:
    # It reports an InvalidStateError, in a method that both use.
    CASES.remove(("shutdown_default_executor", "cancelled"))
    CASES.remove(("shutdown_default_executor", "failed"))


@pytest.fixture
def at_each_await(run, tmp_path):
    def play(name, how):
        at = 1
        # each on a loop of its own
        while run(interrupt, calls.ALL[name], at, how, tmp_path):
            at += 1
        assert at > 1 or name in calls.MAY_NOT_WAIT

    return play


@pytest.mark.parametrize("name, how", [case for case in CASES if not asyncio_fails(*case)])
def test_calls(at_each_await, name, how):
    at_each_await(name, how)


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("name, how", [case for case in CASES if asyncio_fails(*case)])
def test_calls_in_which_asyncio_fails(at_each_await, name, how):
    at_each_await(name, how)
