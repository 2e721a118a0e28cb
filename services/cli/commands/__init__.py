"""One module per group of commands; each public function is a command with its options."""
