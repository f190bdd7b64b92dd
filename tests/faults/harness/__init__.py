"""Run the real thing in a process of its own, do harm to it at a named point, and compare what is left with a twin.

`boundaries` counts what a run says to its databases, `child` is the process, `scene` what a test holds in its hands.
"""
