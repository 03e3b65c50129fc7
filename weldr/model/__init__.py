"""What the keys mean: layout, values, and the catalog they fold into.

Pure: no I/O, no clock, no logging. Everything here is given its input and returns a value, so that the
manager, the workers, the SDK and the tests can share one meaning of the keys.
"""
