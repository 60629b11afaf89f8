"""Where things are kept: the only door to SQL.

Must not enter: HTTP, vendors, decisions about tenants or answers.
"""
