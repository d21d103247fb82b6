"""One page a file, each answering the question in its first line."""
