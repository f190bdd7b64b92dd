"""The XGBoost layer: a store of verified model versions, and what scores with them."""
