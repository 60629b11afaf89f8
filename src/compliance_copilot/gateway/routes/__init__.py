"""One file per noun of the HTTP contract; each has a `router`."""
