"""A real instance under mixed traffic, while backends crash, keys change and clients leave in the middle."""
