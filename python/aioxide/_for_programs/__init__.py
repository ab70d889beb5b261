"""For programs that use more than asyncio's public interface: its queue, its selector and inner
methods, loops that run again while they run, and what versions before 3.10 allowed."""
