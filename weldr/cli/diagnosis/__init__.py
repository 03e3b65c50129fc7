"""What `weldr doctor` looks at."""
