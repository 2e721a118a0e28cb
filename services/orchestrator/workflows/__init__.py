"""Workflow code: no I/O, no clock, no protobuf, no gRPC, no torch."""
