"""What explainers that ask a language model share: evidence as text, the questions of the
first and the last step, and the checks on their replies."""
