"""Which backend of a service is next. Pure, but for chance.

| module | |
| --- | --- |
| `balancer` | what every policy can do, and what it asks of a member |
| `round_robin`, `random_choice`, `least_requests`, `peak_ewma`, `consistent_hash` | the policies |
| `unhurried` | changes of a dear balancer, bit by bit |
| `weighted_set` | members drawn by weight, for the policies that draw |
| `latency` | how slow a member was lately |
| `zones` | two balancers as one: the own zone's before that of the others |
| `policies` | a balancer for a service's value |
| `slow_start` | whose share still grows |
| `request_key` | what of a request `consistent_hash` goes by |
| `sticky` | the cookie that brings a client back |
| `membership` | who is in a service's balancer, and with which weight |
| `chooser` | the choice for one request, where that takes more than the balancer |
"""
