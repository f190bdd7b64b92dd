"""What is done to rows after a run: prune, erase, release from quarantine, export."""
