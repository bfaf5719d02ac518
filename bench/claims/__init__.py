"""Claims people make of batch sizes, each with an operational definition, and what a sweep says of them."""
