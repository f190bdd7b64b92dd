"""The pack retail/demand. See README.md."""
