"""WHAT is answered: from a text to a checked quote.

Must not enter: HTTP, SQL drivers, vendor SDKs, limits and money.
"""
