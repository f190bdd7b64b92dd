"""Text files (CSV and JSON): how they are written, their rows, and the types of their columns."""
