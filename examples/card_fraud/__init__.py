"""The pack finance/card-fraud. See README.md."""
