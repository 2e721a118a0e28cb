"""What `saexplain demo` does between starting and stopping the stack."""
