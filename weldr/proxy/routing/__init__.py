"""Which route takes a request, and what it makes of it.

| module | |
| --- | --- |
| `compiled` | one route, ready for use: its conditions, its target, what it changes |
| `conditions` | what a route asks of a request beside its host and path |
| `host_routes` | the routes of one host pattern, found by path |
| `table` | all of them, found by host |
| `explanation` | why the others did not win |
| `rules` | what a route does with a request that it takes, before a backend gets it |
"""
