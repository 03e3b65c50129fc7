"""What `/metrics` tells, and how it is written down."""
