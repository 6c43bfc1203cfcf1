"""Speed and memory of objectscape against the obvious alternative, as ratios measured in one run.

`python -m benchmarks --help` lists them; docs/benchmarks.md says what each one measures.
"""
