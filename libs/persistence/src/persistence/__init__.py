"""
The store: SQL decides, NATS rings the bell.

A state change is one sync closure given to ``Database.run``. Inside it a service
uses ``Inbox``, ``Outbox``, ``Leases``, ``Timers`` and its own tables on one
connection, and the closure's effects are durable once ``run`` returns.
"""
