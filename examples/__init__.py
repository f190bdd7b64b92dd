"""Domain packs: complete cases from a source to a decision, and a hand-written flow."""
