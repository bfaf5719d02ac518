"""The chaos test: sweeps that are killed, stopped and damaged at random, held against an undisturbed one.

`scripts/chaos` runs it; the tests here try its parts.
"""
