"""The pack manufacturing/maintenance; see README.md."""
