"""One module per group of commands; each function is a command with its options."""
