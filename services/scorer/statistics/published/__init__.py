"""Published scores exactly as their public implementations compute them.

One module per implementation, each function named after it. Where an implementation and
its paper differ, or where it turns what is undefined or failed into a number, these
functions do what the implementation does; our own estimators beside this package do what
is right, and `docs/scores.md` lists the differences. Two rules hold here as everywhere:
what the implementation reports as NaN or an infinity is undefined, and what it raises is
undefined or a ValueError.
"""
