"""WHO asks and what they may do: tenants, keys, context, configuration, limits.

Must not enter: documents and answers, prices, HTTP, vendors.
"""
