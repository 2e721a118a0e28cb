"""`saexplain`: the stack on one machine, explanations in a terminal, reports."""
