"""Whether backends work: asking them, listening to what workers see of them, and what the lease of each says.

`monitor.py` asks, on a `schedule.py`, by a `probe.py`, and keeps a `record.py` of each backend; `departures.py`
tells the end of many leases from the end of many backends; `changes.py` puts the words of all together into
one, which `reports.py` writes to etcd.
"""
