"""Where a sandbox refuses system calls that not every system has, other ones do."""

import platform

import pytest

from peers import program

# By the kernel's numbers, as the C library hides which call it makes.
NUMBERS = {
    "x86_64": {
        "accept4": 288,
        "epoll_create1": 291,
        "epoll_pwait2": 441,
        "eventfd2": 290,
        "pidfd_open": 434,
        "recvmmsg": 299,
        "sendmmsg": 307,
    },
    "aarch64": {
        "accept4": 242,
        "epoll_create1": 20,
        "epoll_pwait2": 441,
        "eventfd2": 19,
        "pidfd_open": 434,
        "recvmmsg": 243,
        "sendmmsg": 269,
    },
}.get(platform.machine(), {})

PROGRAM = """
    import asyncio, ctypes, errno, importlib, selectors, signal, struct, sys, threading

    def refuse(numbers, error):
        # A filter of the kernel's: load the call's number, compare, return an error or allow.
        code = struct.pack("HBBI", 0x20, 0, 0, 0)
        for number in numbers:
            code += struct.pack("HBBI", 0x15, 0, 1, number)
            code += struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error)
        code += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
        memory = ctypes.create_string_buffer(code)
        filter = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        none = ctypes.c_ulong(0)
        if libc.prctl(38, ctypes.c_ulong(1), none, none, none):
            sys.exit("no_new_privs")
        if libc.prctl(22, ctypes.c_ulong(2), ctypes.c_char_p(filter), none, none):
            sys.exit(f"seccomp: {errno.errorcode[ctypes.get_errno()]}")

    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def fetch(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello\\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self, wanted):
            self.got, self.wanted = [], wanted
            self.done = asyncio.get_running_loop().create_future()
        def datagram_received(self, data, address):
            self.got.append(data)
            if len(self.got) == self.wanted:
                self.done.set_result(sorted(self.got))

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, int)
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        lines = await asyncio.gather(*(fetch(address) for _ in range(20)))
        assert lines == [b"hello\\n"] * 20, lines
        server.close()

        receiver, protocol = await loop.create_datagram_endpoint(
            lambda: Datagrams(40), local_addr=("127.0.0.1", 0)
        )
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
        )
        for number in range(40):
            sender.sendto(b"%02d" % number)
            if number % 20 == 19:
                await asyncio.sleep(0.001)
        assert await protocol.done == [b"%02d" % number for number in range(40)]
        sender.close()
        receiver.close()

        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await child.communicate(b"to and fro")
        assert (out, child.returncode) == (b"to and fro", 0)

        assert await asyncio.to_thread(int, "7") == 7
        woken = loop.create_future()
        threading.Timer(0.01, loop.call_soon_threadsafe, [woken.set_result, "woken"]).start()
        assert await woken == "woken"
        await asyncio.sleep(0.0005)
        return "all of it works"

    refuse([int(number) for number in sys.argv[2:]], getattr(errno, sys.argv[1]))
    importlib.reload(selectors)  # it looks for epoll when it is imported
    print(aio.run(main()))
"""


@pytest.mark.skipif(not NUMBERS, reason="the numbers of system calls here are not known")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", [*NUMBERS, "all of them"])
def test_refused_system_call(aio, call, error):
    refused = {call: NUMBERS[call]} if call in NUMBERS else dict(NUMBERS)
    if error == "EPERM":
        # CPython itself tries nothing else where this one is refused in this way.
        refused.pop("accept4", None)
    numbers = [str(number) for number in refused.values()]
    assert program(aio, PROGRAM, error, *numbers).stdout == "all of it works\n"
