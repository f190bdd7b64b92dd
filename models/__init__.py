"""The XGBoost layer: a store of verified model versions, and scoring with them."""
