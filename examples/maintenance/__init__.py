"""The pack manufacturing/maintenance. See README.md."""
