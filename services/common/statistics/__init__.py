"""Statistics that more than one service reports: plain numbers in, plain numbers out."""
