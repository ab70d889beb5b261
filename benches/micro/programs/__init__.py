"""Plain asyncio programs, one per row, in which no code depends on the loop.

`main(operations)` returns the seconds that `operations` operations took (bytes for memory);
`operations` is a multiple of the program's BATCH.
"""
