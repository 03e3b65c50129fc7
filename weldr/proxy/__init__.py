"""The data plane: a worker process that accepts, routes, balances and forwards.

Five nouns: a *client connection* reads requests and writes responses; an *upstream connection* does the reverse
with a backend; an *exchange* ties one request and its response to both and decides everything about them; a
*pool* holds what a worker has of one backend; the *fleet* holds all pools, and the table by which requests are
routed, which each update of the catalog replaces whole.

All of these are plain objects called by the event loop: no task, future or timer is made for a request, but for
connecting to a backend. What can be decided without I/O is decided in modules that do none: `request_reader`,
`request_head`, `response_reader`, `response_head`, `routes`, `balance`.
"""
