"""Plain asyncio programs, one per row: nothing in them knows which loop runs them.

`main(operations)` returns the seconds that so many operations took (bytes for memory);
`operations` is a multiple of the program's BATCH.
"""
