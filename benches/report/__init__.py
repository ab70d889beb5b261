"""What both benchmarks share: which loops there are, the head, statistics, tables, pictures."""
