"""How fast the project is, and how much memory it takes, beside the simplest or the released way of doing the same.

Both sides of a figure are measured in the same run, in turns, and compared as a ratio: absolute times say more about the
machine. `python -m benchmarks` runs all that needs nothing but the project; `python -m benchmarks.<name>` runs one.
"""
