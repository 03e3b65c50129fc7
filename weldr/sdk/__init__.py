"""Registration: for programs that put themselves into rotation, and for `weldr register`."""
