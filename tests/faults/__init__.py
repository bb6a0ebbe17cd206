"""Stages that are killed, artefacts that are damaged: what must not be lost, and what must not be used silently.

`python -m tests.faults --seconds 600 --seed 1` does it at random for as long as it is given; the tests beside it are a bounded
choice of the same.
"""
