"""What a call costs and what it adds, against a bare relay: `python -m benchmarks.run`.

`run` measures, `systems` starts what is measured, `phones` and `echo_model` are the load, `report`
judges.  See docs/benchmark.md.
"""
