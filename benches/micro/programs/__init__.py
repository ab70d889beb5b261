"""Plain asyncio programs, one per row, in which no code depends on the loop.

`main(operations)` returns the seconds that `operations` operations took; `operations` is a multiple
of the program's BATCH. Two more constants, both False where a program does not have them:

- ONCE: `main(BATCH)` is called once in a fresh process, without a warm-up;
- BYTES: the same, and it returns bytes of resident memory instead of seconds.

`parts/` has what several of the programs share.
"""
