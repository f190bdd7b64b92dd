"""Real servers for the tests: object stores, a web server, and a proxy that spoils their answers."""
