"""One file for each outside thing: models, embedders, indexes. Vendor SDKs live here only."""
