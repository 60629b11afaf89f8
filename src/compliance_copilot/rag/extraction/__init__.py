"""Files to texts: a process of its own reads them, with bounds on memory, time and output.

`pool.py` is the service's side; everything else here runs in the reading process, where a hostile
file can do no more than end it. Must not enter: SQL, tenants, the network.
"""
