"""Stand-ins for outside services: real servers in their own processes, spoken to over HTTP."""
