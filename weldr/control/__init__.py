"""The manager: the one process of an instance that talks to etcd, starts the workers and serves the admin port.

`manager` composes; `catalog_keeper` folds what etcd says; `listeners` holds the sockets; `worker` and
`worker_pool` run the data plane; `presence` says in etcd that this instance lives.
"""
