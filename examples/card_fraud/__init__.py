"""The pack finance/card-fraud; see README.md."""
