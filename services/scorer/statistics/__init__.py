"""Estimators of the scorer: plain arrays in, `Estimate` out. No protobuf, no I/O.

An estimator never returns NaN or an infinity. Where its value does not exist it returns
an `Estimate` without value and with the reason.
"""
