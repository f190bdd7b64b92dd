"""Tables in a lake: Delta Lake and Apache Iceberg, read at one version. See docs/adr/0026."""
