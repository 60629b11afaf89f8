"""The only door to SQL: the embedded server, the pools and tenant transactions, the migrations.

asyncpg is imported here and nowhere else; no HTTP, no vendor and no rule of a wing enters.
"""
