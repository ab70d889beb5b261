"""The code that both benchmarks share: targets, the head of a report, statistics, tables,
pictures."""
