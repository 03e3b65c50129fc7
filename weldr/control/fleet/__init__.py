"""The numbers of the whole fleet at any instance, for the dashboard: for as long as somebody looks at it."""
