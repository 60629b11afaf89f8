"""HTTP and only HTTP: keys, bodies, problems, routes. No SQL, no vendor, no retrieval."""
