"""Labels that come later: collect them, join them to what was scored, and keep the performance of each run."""
