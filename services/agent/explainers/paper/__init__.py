"""The published setting: one probe per hypothesis and round, verdicts by the model."""
