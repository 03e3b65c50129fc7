"""The etcd client: async methods and typed events above, `etcd3`'s messages on `grpc.aio` below.

`protocol` makes the messages; `connection` holds a channel to one good member; `client` makes requests;
`lease`, `watch` and `follow` are what lives on for long. Nothing above this package sees gRPC.
"""
