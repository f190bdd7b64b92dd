"""The pack healthcare/readmission. See README.md."""
