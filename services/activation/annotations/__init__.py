"""What is kept beside an index and needs no corpus: vocabulary probe, facts from the weights."""
