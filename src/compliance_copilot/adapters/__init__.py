"""One file per outside thing. Vendor SDKs are imported here and nowhere else."""
