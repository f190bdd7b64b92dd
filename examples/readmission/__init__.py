"""The pack healthcare/readmission; see README.md."""
