"""HOW MUCH it cost: prices, the ledger's two steps, reading it.

Must not enter: who may do what, documents and answers, HTTP, vendors.
"""
