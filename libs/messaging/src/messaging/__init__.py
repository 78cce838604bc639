"""
Messages between services: sent, settled, answered and streamed without loss.

``bus`` and ``subscriptions`` say what a service may send and listen to;
``nats_bus`` carries it over NATS, ``relay`` empties the outbox until receivers
have what they are owed, ``housekeeping`` answers for the inbox and the dead
letters, and ``runner`` starts and drains a process.
"""
