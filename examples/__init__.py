"""Domain packs: whole cases from a source to a decision, and a hand-written flow."""
