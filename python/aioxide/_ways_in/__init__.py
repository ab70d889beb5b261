"""How a program gets aioxide: install(), the policy, `python -m aioxide`, and child processes."""
